/** `unstuck reset`, `cancel`, `pause`, `resume` and `drain`: what a person changes. Each says what it did; a refusal is exit code 1. */
import { userInfo } from 'node:os'
import type { Command } from 'commander'
import type { Dispatcher } from '../dispatcher.js'
import { UserError } from '../kernel/errors.js'
import { type CliContext, contextOf } from './context.js'
import { bulkResetLine, cancelLine, drainLine, holdLine, resetLine } from './control-lines.js'

interface OrderFlags {
  readonly reason?: string
  readonly dryRun?: boolean
}

interface ResetFlags extends OrderFlags {
  readonly group?: string
  readonly all?: boolean
  readonly failed?: boolean
}

const DRY_RUN = ['--dry-run', 'say what would happen and change nothing'] as const
const REASON = ['--reason <text>', 'why, for the audit; at most 500 characters'] as const

export function addControlCommands(program: Command): void {
  program
    .command('reset <queue> [jobid]')
    .description('give a job, or all exhausted ones, all attempts again and put them back, at the pace of the queue')
    .option('--all', 'every exhausted job of the queue')
    .option('--group <group>', 'every exhausted job of this group')
    .option('--failed', 'with --all or --group: those that failed for good too')
    .option(...REASON)
    .option(...DRY_RUN)
    .action((queue: string, id: string | undefined, flags: ResetFlags, command: Command) =>
      id === undefined ? resetMany(contextOf(command), queue, flags) : resetOne(contextOf(command), queue, id, flags),
    )
  program
    .command('cancel <queue> <jobid>')
    .description('cancel a job, wherever it is; one that runs is told to stop')
    .option(...REASON)
    .option(...DRY_RUN)
    .action((queue: string, id: string, flags: OrderFlags, command: Command) => cancel(contextOf(command), queue, id, flags))
  for (const action of ['pause', 'resume'] as const) {
    program
      .command(`${action} <queue>`)
      .description(
        action === 'pause' ? 'let a queue keep its jobs; what runs goes on' : 'let a paused queue give its jobs out again',
      )
      .option(...DRY_RUN)
      .action((queue: string, flags: OrderFlags, command: Command) => hold(contextOf(command), action, queue, flags))
  }
  program
    .command('drain <supervisor>')
    .description('tell a supervisor to take no more jobs, finish what runs, and leave')
    .option(...DRY_RUN)
    .action((supervisor: string, flags: OrderFlags, command: Command) => drain(contextOf(command), supervisor, flags))
}

async function resetOne(context: CliContext, queue: string, id: string, flags: ResetFlags): Promise<void> {
  if (flags.all || flags.failed || flags.group !== undefined) {
    const flag = flags.all ? '--all' : flags.failed ? '--failed' : '--group'
    throw new UserError('INPUT_INVALID', `${flag}: cannot stand beside a job id; leave one of them out`)
  }
  await obey(context, flags, async (dispatcher, options) => {
    const done = await dispatcher.reset(queue, id, options)
    return { result: { queue, jobId: id, ...done }, line: resetLine(queue, id, done, options.dryRun) }
  })
}

async function resetMany(context: CliContext, queue: string, flags: ResetFlags): Promise<void> {
  const { all = false, failed: permanent = false, group } = flags
  if (!all && group === undefined)
    throw new UserError('INPUT_INVALID', 'reset: which jobs? name a job id, or give --all or --group GROUP')
  if (all && group !== undefined)
    throw new UserError('INPUT_INVALID', '--all: cannot stand beside --group; leave one of them out')
  const scope = { ...(group === undefined ? {} : { group }), permanent }
  await obey(context, flags, async (dispatcher, options) => {
    const done = await dispatcher.resetAll(queue, { ...options, ...scope })
    return { result: { queue, ...scope, ...done }, line: bulkResetLine(queue, done, scope, options.dryRun) }
  })
}

async function cancel(context: CliContext, queue: string, id: string, flags: OrderFlags): Promise<void> {
  await obey(context, flags, async (dispatcher, options) => {
    const done = await dispatcher.cancel(queue, id, options)
    return { result: { queue, jobId: id, ...done }, line: cancelLine(queue, id, done, options.dryRun) }
  })
}

async function hold(context: CliContext, action: 'pause' | 'resume', queue: string, flags: OrderFlags): Promise<void> {
  await obey(context, flags, async (dispatcher, options) => {
    const changed = await dispatcher[action](queue, options)
    return { result: { queue, action, changed }, line: holdLine(queue, action, changed, options.dryRun) }
  })
}

async function drain(context: CliContext, supervisor: string, flags: OrderFlags): Promise<void> {
  await obey(context, flags, async (dispatcher, options) => {
    const running = await dispatcher.drain(supervisor, options)
    return { result: { supervisor, running }, line: drainLine(supervisor, running, options.dryRun) }
  })
}

interface Options {
  readonly actor: string
  readonly reason?: string
  readonly dryRun: boolean
}

interface Done {
  /** For `--json`. */
  readonly result: object
  readonly line: string
}

async function obey(
  context: CliContext,
  { reason, dryRun = false }: OrderFlags,
  order: (dispatcher: Dispatcher, options: Options) => Promise<Done>,
): Promise<void> {
  const config = await context.config({ handlersMustExist: false })
  await context.withDispatcher(config, async (dispatcher) => {
    const { result, line } = await order(dispatcher, { actor: actor(), dryRun, ...(reason === undefined ? {} : { reason }) })
    if (context.json) context.printJson(dryRun ? { dryRun, ...result } : result)
    else context.terminal.line(line)
  })
}

/** Who types. A container's user may have no name. */
function actor(): string {
  try {
    return `cli:${userInfo().username}`
  } catch {
    return `cli:${process.getuid?.() ?? 'unknown'}`
  }
}
