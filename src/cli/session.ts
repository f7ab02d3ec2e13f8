/** What a session says to its supervisor, and asks of it. No Redis and no config: all that is needed is in its environment. */
import { type Command, InvalidArgumentError } from 'commander'
import { askSupervisor } from '../launch/node-socket-client.js'
import { MAX_PROGRESS } from '../launch/socket-protocol.js'

export function addSessionCommands(program: Command): void {
  program
    .command('beat')
    .description('inside a session: a sign of life')
    .option('--progress <token>', 'what changes with real progress; the same token again is no sign of life', progressToken)
    .action(async ({ progress }: { progress?: string }, command: Command) => {
      await askSupervisor(process.env, { do: 'beat', ...(progress === undefined ? {} : { progress }) })
      sayOk(command)
    })
  program
    .command('fence')
    .description('inside a session: whose job it is')
    .command('check')
    .description('exit code 0 while this session owns its job, 1 when not, 2 when nobody can say')
    .action(async (_: object, command: Command) => {
      await askSupervisor(process.env, { do: 'fence' })
      sayOk(command)
    })
}

function sayOk(command: Command): void {
  if (command.optsWithGlobals<{ json?: boolean }>().json)
    process.stdout.write(`${JSON.stringify({ ok: true }, undefined, 2)}\n`)
}

function progressToken(text: string): string {
  if (text.length > MAX_PROGRESS) throw new InvalidArgumentError(`It must have at most ${MAX_PROGRESS} characters.`)
  return text
}
