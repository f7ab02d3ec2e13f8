/** `unstuck config`: what is in force, secrets hidden. `unstuck healthcheck`: for a container's HEALTHCHECK. */
import type { Command } from 'commander'
import { messageOf } from '../kernel/errors.js'
import { describeConfig } from '../platform/config-parse.js'
import { contextOf, parsePort } from './context.js'
import { EXIT } from './exit.js'
import { printable, table } from './terminal.js'

const HEALTHCHECK_LIMIT_MS = 3000

export function addConfigCommands(program: Command): void {
  program
    .command('config')
    .description('what is in force, secrets hidden')
    .action(async (_: object, command: Command) => {
      const context = contextOf(command)
      const shown = describeConfig(await context.config({ findEmbedded: false }))
      if (context.json) return context.printJson(shown)
      for (const line of table(leaves(shown))) context.terminal.line(line)
    })
  program
    .command('healthcheck')
    .description('exit code 0 when the watchdog (or with --port a supervisor) on this machine answers, else 1')
    .option('--port <port>', 'port to ask (default: http.port)', parsePort)
    .action(async (flags: { port?: number }, command: Command) => {
      const context = contextOf(command)
      const { http } = await context.config({
        flags: { http: { port: flags.port } },
        handlersMustExist: false,
        findEmbedded: false,
      })
      const host =
        http.host === '0.0.0.0' || http.host === '::' ? '127.0.0.1' : http.host.includes(':') ? `[${http.host}]` : http.host
      const problem = await problemAt(`http://${host}:${http.port}/livez`)
      if (context.json) context.printJson({ ok: problem === undefined, ...(problem === undefined ? {} : { problem }) })
      else if (problem !== undefined) context.terminal.note(`unstuck: ${problem}`)
      context.finish(problem === undefined ? EXIT.fine : EXIT.problem)
    })
}

async function problemAt(url: string): Promise<string | undefined> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(HEALTHCHECK_LIMIT_MS) })
    return response.ok ? undefined : `${url}: answered with ${response.status}`
  } catch (error) {
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
    return `${url}: no answer (${messageOf(cause)}); check that the process runs and listens there`
  }
}

function leaves(value: unknown, prefix = ''): string[][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return [[prefix, value === undefined ? '-' : printable(typeof value === 'string' ? value : JSON.stringify(value))]]
  }
  return Object.entries(value).flatMap(([key, member]) => leaves(member, prefix === '' ? key : `${prefix}.${key}`))
}
