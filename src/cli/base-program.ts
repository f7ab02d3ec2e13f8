/** The program without its commands: its name, and the options that every command takes. */
import { Command } from 'commander'
import { VERSION } from '../platform/version.js'

/** A mistake on the command line is thrown as a CommanderError and not printed. */
export function baseProgram(): Command {
  return new Command('unstuck')
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
}
