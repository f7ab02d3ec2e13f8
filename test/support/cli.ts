/** Runs the command line from dist to its end. */
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { onTestFinished } from 'vitest'

export const MAIN = resolve(import.meta.dirname, '../../dist/cli/main.js')

export interface CliResult {
  readonly code: number | NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

export interface CliOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
  readonly input?: string
}

/** The environment without settings of the machine that tests run on. */
export function cleanEnv(env: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('UNSTUCK_') && name !== 'REDIS_URL')
  return { ...Object.fromEntries(own), ...env }
}

/** @returns its exit code and everything that it said */
export function cli(args: readonly string[], { cwd, env, input = '' }: CliOptions = {}): Promise<CliResult> {
  const child = spawn(process.execPath, [MAIN, ...args], { cwd, env: cleanEnv(env), stdio: 'pipe' })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString()
  })
  // It may refuse before it has read everything.
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  return new Promise((done, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => done({ code: code ?? signal, stdout, stderr }))
  })
}

/** A folder of one's own, gone with the test. */
export function tempFolder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-cli-'))
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}
