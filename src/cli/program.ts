/** All commands and the options that every one of them takes. */
import { Command } from 'commander'
import { VERSION } from '../platform/version.js'
import { addConfigCommands } from './config.js'
import { addControlCommands } from './control.js'
import { addEnqueueCommand } from './enqueue.js'
import { addStatusCommands } from './status.js'
import { addSupervisorCommand } from './supervisor.js'
import { addUpCommand } from './up.js'
import { addWatchdogCommand } from './watchdog.js'

/** A mistake on the command line is thrown as a CommanderError and not printed. */
export function buildProgram(): Command {
  const program = new Command('unstuck')
    .description('Runs BullMQ jobs in watched threads, and says within seconds what is stuck and why.')
    .version(VERSION)
    .option('--config <file>', 'config file (default: unstuck.config.mjs, .js or .json in this folder)')
    .option('--redis <url>', 'address of Redis (default: REDIS_URL, or redis.url of the config)')
    .option('--json', 'print JSON')
    .option('--no-color', 'print without colours')
    .showSuggestionAfterError()
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({ outputError: () => undefined })
    .exitOverride()
  addUpCommand(program)
  addSupervisorCommand(program)
  addWatchdogCommand(program)
  addEnqueueCommand(program)
  addStatusCommands(program)
  addControlCommands(program)
  addConfigCommands(program)
  return program
}
