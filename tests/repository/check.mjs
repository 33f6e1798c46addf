// Parses the workflows, templates and release notes, and checks that they fit the Makefile and each other.
//
//   node --test-reporter=spec tests/repository/check.mjs

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (name) => readFileSync(path.join(root, name), 'utf8');
const list = (folder) => readdirSync(path.join(root, folder)).sort();
// The YAML parser is a package of tests/containers. This folder has no packages.
const { parseDocument } = createRequire(path.join(root, 'tests/containers/package.json'))('yaml');

const WORKFLOWS = list('.github/workflows').map((name) => `.github/workflows/${name}`);
const FORMS = list('.github/ISSUE_TEMPLATE').map((name) => `.github/ISSUE_TEMPLATE/${name}`);
const KINDS = ['added', 'changed', 'deprecated', 'removed', 'fixed', 'security'];

const yaml = (name) => {
  const document = parseDocument(read(name), { strict: true, uniqueKeys: true });
  assert.deepEqual([...document.errors, ...document.warnings], [], name);
  return document.toJS();
};
const jobs = () =>
  WORKFLOWS.flatMap((file) => Object.entries(yaml(file).jobs).map(([name, job]) => ({ where: `${file}: ${name}`, job })));
const steps = () => jobs().flatMap(({ where, job }) => job.steps.map((step) => ({ where, step })));
// A target is `name:` at the beginning of a line. The text after `##` is its line in `make help`.
const targets = (makefile) => new Map([...makefile.matchAll(/^([a-z-]+):[^=\n]*?(?:## (.+))?$/gm)].map(([, name, help]) => [name, help]));
const called = (script) => [...script.matchAll(/\bmake ([a-z-]+)/g)].map(([, name]) => name);

test('workflows are YAML with jobs, and may only read', () => {
  assert.ok(WORKFLOWS.length > 0);
  for (const file of WORKFLOWS) {
    const workflow = yaml(file);
    assert.ok(workflow.name && workflow.on && Object.keys(workflow.jobs).length, file);
    assert.deepEqual(workflow.permissions, { contents: 'read' }, file);
  }
  for (const { where, job } of jobs()) {
    assert.equal(job.permissions, undefined, `${where} asks for more permissions`);
    assert.ok(job['timeout-minutes'] > 0, `${where} has no timeout-minutes`);
  }
});

test('every job calls a make target', () => {
  for (const { where, job } of jobs()) {
    assert.ok(job.steps.some(({ run }) => run && called(run).length), where);
  }
});

test('every make target that a workflow or a document names exists, and is in the list', () => {
  const makefile = targets(read('Makefile'));
  const phony = /^\.PHONY:((?:.*\\\n)*.*)$/m.exec(read('Makefile'))[1].split(/[\s\\]+/);
  const documents = ['README.md', 'CONTRIBUTING.md', 'docs/RELEASING.md', 'docs/BENCHMARKS.md', '.github/pull_request_template.md'];
  const quoted = (name) => [...read(name).matchAll(/^make [a-z-]+|`make [a-z-]+/gm)].flatMap(([text]) => called(text));
  const named = [
    ...steps().flatMap(({ where, step }) => called(step.run ?? '').map((target) => [where, target])),
    ...documents.flatMap((name) => quoted(name).map((target) => [name, target])),
  ];
  assert.ok(named.length > 20);
  for (const [where, target] of named) {
    assert.ok(makefile.get(target), `${where}: the Makefile has no target ${target} with a ## line`);
  }
  for (const target of makefile.keys()) assert.ok(phony.includes(target), `${target} is not in .PHONY`);
});

test('actions are pinned to a commit, and no checkout leaves its token behind', () => {
  for (const { where, step } of steps()) {
    if (!step.uses) continue;
    assert.match(step.uses, /^actions\/[a-z-]+@[0-9a-f]{40}$/, where);
    if (step.uses.startsWith('actions/checkout@')) assert.equal(step.with['persist-credentials'], false, where);
  }
  for (const file of WORKFLOWS) {
    for (const line of read(file).split('\n').filter((line) => line.includes('uses:'))) {
      assert.match(line, / # v\d+\.\d+\.\d+$/, `${file}: the version of the action goes behind it: ${line.trim()}`);
    }
  }
});

test('nothing that a stranger can write becomes a command', () => {
  for (const { where, step } of steps()) assert.doesNotMatch(step.run ?? '', /\$\{\{/, where);
});

test('a tool has one version in all workflows', () => {
  const versions = new Map();
  for (const { where, step } of steps()) {
    for (const [, tool, version] of (step.run ?? '').matchAll(/cargo install (\S+) --locked --version (\S+)/g)) {
      assert.equal(versions.get(tool) ?? version, version, where);
      versions.set(tool, version);
    }
  }
  for (const { where, step } of steps()) {
    const [, tool, version] = /^(cargo-deny|lychee)-(.+)$/.exec(step.with?.key ?? '') ?? [];
    assert.equal(version, versions.get(tool), `${where}: the cache has another version`);
  }
});

test('issue forms ask for what a fix needs', () => {
  const fields = new Map(FORMS.map((name) => [path.basename(name), (yaml(name).body ?? []).map(({ id }) => id)]));
  for (const id of ['version', 'configuration', 'logs']) assert.ok(fields.get('bug.yml').includes(id), id);
  assert.ok(fields.has('feature.yml'));
  assert.ok(yaml('.github/ISSUE_TEMPLATE/config.yml').contact_links.some(({ name }) => name === 'Question'));
});

test('a pull request says problem, solution and proof', () => {
  const headings = [...read('.github/pull_request_template.md').matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  assert.deepEqual(headings, ['Problem', 'Solution', 'Proof']);
});

test('dependabot looks after folders that exist', () => {
  const { version, updates } = yaml('.github/dependabot.yml');
  assert.equal(version, 2);
  assert.ok(updates.some((entry) => entry['package-ecosystem'] === 'github-actions'));
  for (const entry of updates) {
    for (const folder of entry.directories ?? [entry.directory]) assert.ok(list(folder).length, folder);
  }
});

test('every release note has a kind and is one list item', () => {
  const script = /^for heading in (.+); do$/m.exec(read('changelog.d/print.sh'))[1];
  assert.deepEqual(script.toLowerCase().split(' '), KINDS);
  for (const name of list('changelog.d')) {
    if (['README.md', 'print.sh'].includes(name)) continue;
    const [, kind] = /^[a-z0-9-]+\.([a-z]+)\.md$/.exec(name) ?? [];
    assert.ok(KINDS.includes(kind), `changelog.d/${name} is not named <what>.<kind>.md; kinds: ${KINDS.join(', ')}`);
    assert.match(read(`changelog.d/${name}`), /^- \S.*\n(?: {2}\S.*\n)*$/, `changelog.d/${name} is not one list item`);
  }
});

test('every fuzz target has seeds', () => {
  const names = [...read('fuzz/Cargo.toml').matchAll(/^name = "([a-z_]+)"$/gm)].map(([, name]) => name);
  assert.deepEqual(list('fuzz/seeds'), names.sort());
  for (const name of names) assert.ok(list(`fuzz/seeds/${name}`).length > 0, name);
});
