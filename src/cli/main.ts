#!/usr/bin/env node
/**
 * The command line. Each command lives in a file of its group; here is what they share: how a mistake is said (one line
 * on standard error, exit code 2 or, for a refusal, 1, never a stack trace) and how the process ends.
 */
import { type Command, CommanderError } from 'commander'
import { isRefusal, messageOf, UserError } from '../kernel/errors.js'
import { baseProgram } from './base-program.js'
import { EXIT } from './exit.js'
import { addHealthcheckCommand } from './healthcheck.js'
import { tellParent } from './long-running.js'
import { addSessionCommands } from './session.js'
import { printable } from './terminal.js'

/** What went wrong in one line, or undefined when nothing did (`--help`). */
function complaintOf(error: unknown): string | undefined {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return undefined
    // No command was given, and the help was shown instead.
    if (error.code === 'commander.help') return ''
    return `${error.message
      .replace(/^error: /, '')
      .replace(/\s*\n\s*/g, ' ')
      .replace(/\.$/, '')}; see \`unstuck --help\``
  }
  if (error instanceof UserError) return error.message
  return `unexpected: ${messageOf(error)}; set UNSTUCK_DEBUG=1 to see where`
}

function fail(error: unknown): void {
  const complaint = complaintOf(error)
  if (complaint === undefined) return
  if (error instanceof UserError) tellParent({ unstuck: 'refused', code: error.code })
  if (complaint !== '') process.stderr.write(`unstuck: ${printable(complaint)}\n`)
  if (process.env['UNSTUCK_DEBUG'] === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`)
  process.exit(error instanceof UserError && isRefusal(error.code) ? EXIT.problem : EXIT.unable)
}

// `unstuck … | head` is no mistake.
for (const stream of [process.stdout, process.stderr]) {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error
  })
}

/** What a session or a container calls often must not pay for loading everything else. */
const LIGHT = ['beat', 'fence', 'healthcheck']

async function loadProgram(): Promise<Command> {
  if (!LIGHT.includes(process.argv[2] ?? '')) return (await import('./program.js')).buildProgram()
  const program = baseProgram()
  addSessionCommands(program)
  addHealthcheckCommand(program)
  return program
}

try {
  const program = await loadProgram()
  await program.parseAsync()
} catch (error) {
  fail(error)
}
