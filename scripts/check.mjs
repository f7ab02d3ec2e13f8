/** Everything that can be said about the code without running it, at once. Prints only what is wrong. */
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { ensurePackages, root } from './ensure.mjs'

ensurePackages()

const ruleTests = ['test/architecture.test.ts', 'test/docs.test.ts'].filter((file) => existsSync(join(root, file)))
const checks = [
  // The tests' project takes in src, under the same rules.
  ['types', 'typescript/bin/tsc', ['-p', 'test/tsconfig.json']],
  ['biome', '@biomejs/biome/bin/biome', ['check', '--error-on-warnings']],
  ['knip', 'knip/bin/knip.js', ['--no-progress', '--no-config-hints']],
  ['rules', 'vitest/vitest.mjs', ['run', '--project', 'unit', ...ruleTests]],
]

/** Runs one check, keeps its output for the case that it fails. */
function runCheck([name, script, args]) {
  const started = performance.now()
  const child = spawn(process.execPath, [join(root, 'node_modules', script), ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const keep = (chunk) => {
    output += chunk
  }
  child.stdout.on('data', keep)
  child.stderr.on('data', keep)
  return new Promise((resolve) => {
    child.once('close', (code) => {
      const seconds = ((performance.now() - started) / 1000).toFixed(1)
      process.stdout.write(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)\n${code === 0 ? '' : output}`)
      resolve(code === 0)
    })
  })
}

const results = await Promise.all(checks.map(runCheck))
process.exitCode = results.every(Boolean) ? 0 : 1
