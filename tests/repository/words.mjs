// Counts words that make sentences hard to read, in documents and comments, and fails when there are more than agreed.
//
//   node --test-reporter=spec tests/repository/words.mjs           fails above the limit
//   node tests/repository/words.mjs --list                         prints every place

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

// There is none today. Never raise it.
const LIMIT = 0;

const WORDS = /\b(?:stands?|stood|nobody|beside|whoever)\b/gi;

const root = fileURLToPath(new URL('../..', import.meta.url));
const SKIPPED = new Set(['.git', '.tidegate', 'node_modules', 'target', '__pycache__', 'corpus', 'artifacts']);

// The beginning of a comment, by kind of file. Documents are prose as a whole.
const HASH = /(?:^|\s)#(?!\[)(.*)/;
const SLASHES = /(?:^|[^:])\/\/(.*)/;
const COMMENTS = {
  '.rs': SLASHES, '.mjs': SLASHES, '.js': SLASHES, '.ts': SLASHES, '.go': SLASHES,
  '.toml': HASH, '.yml': HASH, '.yaml': HASH, '.py': HASH, '.sh': HASH, '.conf': HASH,
  Makefile: HASH, Dockerfile: HASH,
};

if (process.argv.includes('--list')) {
  for (const { file, line, word } of places()) console.log(`${file}:${line}: ${word}`);
} else {
  test(`documents and comments have at most ${LIMIT} words that hide their meaning`, () => {
    const count = places().length;
    console.log(`${count} of ${LIMIT}`);
    assert.ok(
      count <= LIMIT,
      `stand, stands, stood, nobody, beside and whoever: ${count} in documents and comments, and ${LIMIT} are agreed. ` +
        'Say it plainly: "is", "no one", "next to", "the client that". ' +
        '`node tests/repository/words.mjs --list` shows every place.',
    );
  });

  test('only documents and comments are counted', () => {
    const count = (name, text) => prose(name, text).flatMap(({ text }) => text.match(WORDS) ?? []).length;
    assert.equal(count('a.rs', 'let beside = 1; // it stands beside\n/// Nobody.\nlet url = "http://nobody";'), 3);
    assert.equal(count('a.toml', '# whoever\nkey = "nobody" # stood\n'), 2);
    assert.equal(count('a.md', 'Outstanding work. It stands.\n'), 1);
    assert.equal(count('a.png', 'nobody'), 0);
  });
}

function places() {
  return files(root).flatMap((file) =>
    prose(file, readFileSync(path.join(root, file), 'utf8')).flatMap(({ line, text }) =>
      [...text.matchAll(WORDS)].map(([word]) => ({ file, line, word })),
    ),
  );
}

function prose(name, text) {
  const isDocument = path.extname(name) === '.md';
  const comment = COMMENTS[path.extname(name) || path.basename(name)];
  if (!isDocument && !comment) return [];
  return text.split('\n').flatMap((content, at) => {
    const words = isDocument ? content : comment.exec(content)?.[1];
    return words ? [{ line: at + 1, text: words }] : [];
  });
}

function files(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const found = path.join(folder, entry.name);
    if (entry.isDirectory()) return SKIPPED.has(entry.name) ? [] : files(found);
    // This file contains the words in order to count them.
    return entry.isFile() && found !== fileURLToPath(import.meta.url) ? [path.relative(root, found)] : [];
  });
}
