// The files of config-examples/grafana as TypeScript that `tsc` can check, and as JSON that a test can read.
//
//   node read.mjs json FILE.yaml…            prints one JSON list of what the files hold
//   node read.mjs check OUT DIRECTORY        writes OUT/*.ts from DIRECTORY's dashboards and provisioning files
//
// Runs where `npm ci` has put the packages of package.json. Deliberately absent: any judgement; `model.ts` has the types.

import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { parse } from 'yaml';

const read = (path) => parse(readFileSync(path, 'utf8'), { merge: true });
const source = (imports, type, value) => `import { ${imports} } from './model';\n\nexport const it: ${type} = ${value};\n`;

// An object literal in which every part that has a function of its own in model.ts goes through that.
function literal(key, value, kind) {
  if (Array.isArray(value)) {
    return `[\n${value.map((item) => element(key, item, kind)).join(',\n')}]`;
  }
  if (value !== null && typeof value === 'object') {
    return `{\n${Object.entries(value).map(([name, part]) => `${JSON.stringify(name)}: ${literal(name, part, kind)}`).join(',\n')}}`;
  }
  return JSON.stringify(value);
}

function element(list, item, kind) {
  if (list === 'panels') {
    const own = item.type === 'row' ? 'row(' : `panel(${JSON.stringify(item.type)}, `;
    return `${own}${literal('', item, item.type)})`;
  }
  if (list === 'targets') {
    return `${item.datasource.type}(${literal('', item, kind)})`;
  }
  if (list === 'overrides') {
    return `override(${JSON.stringify(kind)}, ${literal('', item, kind)})`;
  }
  return literal('', item, kind);
}

const [, , command, ...rest] = process.argv;
if (command === 'json') {
  process.stdout.write(JSON.stringify(rest.map(read)));
} else if (command === 'check') {
  const [out, directory] = rest;
  // Files of different folders have the same name.
  const write = (from, imports, type) =>
    writeFileSync(join(out, `${basename(from)}.${type}.ts`), source(imports, type, literal('', read(from), null)));
  const within = (folder) => readdirSync(join(directory, folder)).map((name) => join(directory, folder, name));
  for (const path of within('dashboards')) {
    write(path, 'loki, override, panel, prometheus, row, type Dashboard', 'Dashboard');
  }
  for (const [folder, type] of [['datasources', 'DataSources'], ['dashboards', 'Providers'], ['alerting', 'Alerting']]) {
    for (const path of within(join('provisioning', folder))) {
      write(path, `type ${type}`, type);
    }
  }
} else {
  throw new Error('read.mjs json FILE… | check OUT DIRECTORY');
}
