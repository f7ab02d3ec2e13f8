/** All commands. */
import type { Command } from 'commander'
import { baseProgram } from './base-program.js'
import { addConfigCommand } from './config.js'
import { addControlCommands } from './control.js'
import { addDoctorCommand } from './doctor.js'
import { addDumpCommand } from './dump.js'
import { addEnqueueCommand } from './enqueue.js'
import { addHealthcheckCommand } from './healthcheck.js'
import { addSessionCommands } from './session.js'
import { addStatusCommands } from './status.js'
import { addSupervisorCommand } from './supervisor.js'
import { addUpCommand } from './up.js'
import { addWatchdogCommand } from './watchdog.js'

export function buildProgram(): Command {
  const program = baseProgram()
  addUpCommand(program)
  addSupervisorCommand(program)
  addWatchdogCommand(program)
  addEnqueueCommand(program)
  addStatusCommands(program)
  addDumpCommand(program)
  addControlCommands(program)
  addSessionCommands(program)
  addConfigCommand(program)
  addDoctorCommand(program)
  addHealthcheckCommand(program)
  return program
}
