/** Copies of the build, two as it is and one in which the few lines that stack dumps need are taken out. */
import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { scratch } from './processes.mjs'

const root = (path) => fileURLToPath(new URL(`../../${path}`, import.meta.url))

/** What is there only for dumps and costs something while nobody asks for one; by the compiled file, what takes its place. */
const LINES = {
  'processes/task-thread.js': [
    [/^installLook\(\(\) => \(\{\n[\s\S]*?\n\}\)\);\n/m, ''],
    ['const tid = ownTid();', 'const tid = undefined;'],
    [', (promise) => begun.set(job, promise)', ''],
    [/^ *if \(!begun\.delete\(job\)\)\n *promises\.unregister\(job\);\n/m, ''],
  ],
  'dispatch/thread-context.js': [['entered: entryPoint(this.step)', 'entered: undefined']],
  'processes/sentinel-thread.js': [
    [/^const waker = connectRedis\(.*\n/m, ''],
    [/^onWake\(waker, .*\n/m, ''],
    ['    waker.disconnect();\n', ''],
    ['void dumpSocket.start();\n', ''],
  ],
}

/** @returns addresses of the three, each ending with a slash */
export function buildsWithAndWithoutDumps() {
  const builds = { with: copyOf('with-dumps'), without: copyOf('without-dumps'), same: copyOf('with-dumps-again') }
  for (const [name, changes] of Object.entries(LINES)) changeLines(join(builds.without, name), changes)
  return Object.fromEntries(Object.entries(builds).map(([name, folder]) => [name, `${pathToFileURL(folder)}/`]))
}

function copyOf(name) {
  const folder = join(scratch, name)
  mkdirSync(folder, { recursive: true })
  cpSync(root('dist'), join(folder, 'dist'), { recursive: true })
  cpSync(root('package.json'), join(folder, 'package.json'))
  symlinkSync(root('node_modules'), join(folder, 'node_modules'))
  return join(folder, 'dist')
}

function changeLines(path, changes) {
  let text = readFileSync(path, 'utf8')
  for (const [line, instead] of changes) {
    const changed = text.replace(line, instead)
    if (changed === text) throw new Error(`${path}: ${line} is not there any more; correct bench/lib/builds.mjs`)
    text = changed
  }
  writeFileSync(path, text)
}
