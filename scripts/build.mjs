/** Compiles src into dist. Without a change it does nothing; with one the compiler looks at what changed only. */
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ensurePackages, root, runTool } from './ensure.mjs'

/** The compiler's memory. It lies in dist, so that it never knows of output that was deleted; its time is that of the last build. */
const MEMORY = 'dist/.tsbuildinfo'

/** @returns the compiler's exit code */
export async function build() {
  ensurePackages()
  removeStale()
  if (isFresh()) return 0
  const args = ['-p', 'tsconfig.json', '--incremental', '--tsBuildInfoFile', MEMORY, '--noEmitOnError']
  const code = await runTool('typescript/bin/tsc', args)
  if (code !== 0) return code
  for (const file of filesIn('src')) if (!file.endsWith('.ts')) copy(file)
  const cli = join(root, 'dist/cli/main.js')
  if (existsSync(cli)) chmodSync(cli, 0o755)
  const now = new Date()
  utimesSync(MEMORY, now, now)
  return 0
}

function isFresh() {
  if (!existsSync(MEMORY)) return false
  const builtAt = statSync(MEMORY).mtimeMs
  const sources = [...filesIn('src'), 'tsconfig.json', 'package-lock.json']
  return sources.every((file) => statSync(file).mtimeMs < builtAt) && filesIn('src').every((file) => existsSync(outputOf(file)))
}

function outputOf(file) {
  return join('dist', relative('src', file)).replace(/\.ts$/, '.js')
}

function copy(file) {
  const target = join('dist', relative('src', file))
  mkdirSync(dirname(target), { recursive: true })
  cpSync(file, target)
}

/** What was compiled from a file that is gone would still be packed and found by imports. */
function removeStale() {
  if (!existsSync('dist')) return
  for (const file of filesIn('dist')) {
    const source = join('src', relative('dist', file)).replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts')
    if (/\.(js|d\.ts)(\.map)?$/.test(file) && !existsSync(source) && !existsSync(join('src', relative('dist', file))))
      rmSync(file)
  }
}

function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = await build()
