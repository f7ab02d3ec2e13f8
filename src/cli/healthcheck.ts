/**
 * `unstuck healthcheck`: for a container's health check, so it loads little: it runs again and again beside the process that
 * it asks, and on a busy machine loading the config alone took longer than a health check may. With a port it needs none.
 * Without one it asks the process that is there: the watchdog, and where nothing listens on its port, a supervisor.
 */
import { get } from 'node:http'
import type { Command } from 'commander'
import { hasCode, messageOf } from '../kernel/errors.js'
import { EXIT } from './exit.js'
import { parsePort } from './option-numbers.js'
import { printable } from './terminal.js'

const LIMIT_MS = 3000
const LOOPBACK = '127.0.0.1'

interface HealthcheckFlags {
  readonly port?: number
  readonly config?: string
  readonly json?: boolean
}

export function addHealthcheckCommand(program: Command): void {
  program
    .command('healthcheck')
    .description('exit code 0 when the watchdog or supervisor on this machine answers that it lives, else 1')
    .option(
      '--port <port>',
      'port to ask on 127.0.0.1 (default: as the config says: the watchdog, else the supervisor)',
      parsePort,
    )
    .action(async (_: object, command: Command) => {
      const { config: file, port, json } = command.optsWithGlobals<HealthcheckFlags>()
      const problem = await problemAt(port === undefined ? await addressesIn(file) : [addressOf(LOOPBACK, port)])
      if (json) process.stdout.write(`${JSON.stringify({ ok: problem === undefined, problem }, undefined, 2)}\n`)
      else if (problem !== undefined) process.stderr.write(`unstuck: ${printable(problem)}\n`)
      process.exitCode = problem === undefined ? EXIT.fine : EXIT.problem
    })
}

async function addressesIn(file: string | undefined): Promise<string[]> {
  const { loadConfig } = await import('../platform/config-load.js')
  const { http, supervisor } = await loadConfig({ cwd: process.cwd(), file, env: process.env, handlersMustExist: false })
  return [addressOf(http.host, http.port), addressOf(supervisor.host, supervisor.port)]
}

function addressOf(host: string, port: number): string {
  const reached = host === '0.0.0.0' || host === '::' ? LOOPBACK : host
  return `http://${reached.includes(':') ? `[${reached}]` : reached}:${port}/livez`
}

/** @returns why the first of them that listens is not well, or that none does; undefined when all is well */
async function problemAt([url = '', ...others]: readonly string[]): Promise<string | undefined> {
  try {
    const status = await statusOf(url)
    return status === 200 ? undefined : `${url}: answered with ${status}`
  } catch (error) {
    if (hasCode(error, 'ECONNREFUSED') && others.length > 0) return problemAt(others)
    return `${url}: no answer (${messageOf(error)}); check that the process runs and listens there`
  }
}

function statusOf(url: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, signal: AbortSignal.timeout(LIMIT_MS) }, (response) => {
      resolve(response.statusCode)
      request.destroy()
    })
    request.on('error', reject)
  })
}
