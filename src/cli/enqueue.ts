/** `unstuck enqueue`: adds one job, or as many as a file has lines. Everything is checked before anything is added. */
import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import type { Command } from 'commander'
import { checkJobInput, type JobInput } from '../dispatch/job-input.js'
import { messageOf, UserError } from '../kernel/errors.js'
import { queueNameProblem } from '../platform/config-parse.js'
import { type CliContext, contextOf } from './context.js'
import { type JobLines, parseJson, readJobLines } from './job-lines.js'
import { wholeNumber } from './option-numbers.js'

interface EnqueueFlags {
  readonly data?: string
  readonly file?: string
  readonly name?: string
  readonly jobId?: string
  readonly group?: string
  readonly priority?: number
  readonly delay?: number
  readonly attempts?: number
  readonly dryRun?: boolean
}

/** With fewer jobs a bar would only flicker. */
const BAR_FROM_JOBS = 1000

export function addEnqueueCommand(program: Command): void {
  program
    .command('enqueue <queue>')
    .description('add a job, or many from a file; prints their ids')
    .option('--data <json>', 'the data of one job (default: {})')
    .option(
      '--file <file>',
      'a job a line: {"data": …, "name", "jobId", "group", "priority", "delay", "attempts"}; - = standard input',
    )
    .option('--name <name>', 'name of the job (default: the name of the queue)')
    .option('--job-id <id>', 'own id; a job with an id that exists is not added again')
    .option('--group <group>', 'label of the job')
    .option(
      '--priority <number>',
      '1 (first) to 2097152; without one a job goes before all that have one',
      wholeNumber(1, 2_097_152),
    )
    .option('--delay <ms>', 'milliseconds to wait before the job may run', wholeNumber(0, Number.MAX_SAFE_INTEGER))
    .option('--attempts <number>', "tries before it fails (default: the queue's attempts.max)", wholeNumber(1, 1_000_000))
    .option('--dry-run', 'check everything and add nothing')
    .action(async (queue: string, flags: EnqueueFlags, command: Command) => enqueue(contextOf(command), queue, flags))
}

async function enqueue(context: CliContext, queue: string, flags: EnqueueFlags): Promise<void> {
  const config = await context.config({ handlersMustExist: false })
  const problem = queueNameProblem(queue)
  if (problem !== undefined) throw new UserError('INPUT_INVALID', problem)
  const { jobs, where } = await jobsOf(flags)
  noteUnknownQueue(context, queue, Object.keys(config.queues))
  if (flags.dryRun) return sayDryRun(context, queue, jobs.length)
  await context.withDispatcher(config, async (dispatcher) => {
    const bar = jobs.length >= BAR_FROM_JOBS ? context.terminal.progress(`enqueue ${queue}`, jobs.length) : undefined
    const ids = await dispatcher
      .addBulk(queue, jobs, { where, onProgress: (added) => bar?.update(added) })
      .finally(() => bar?.end())
    if (context.json) context.terminal.line(JSON.stringify(ids))
    else if (ids.length > 0) context.terminal.line(ids.join('\n'))
  })
}

async function jobsOf(flags: EnqueueFlags): Promise<JobLines> {
  const { data, file, jobId } = flags
  if (file === undefined) {
    const parsed = data === undefined ? {} : parseJson(data, '--data')
    return {
      jobs: [checkJobInput({ ...commonOf(flags), ...(jobId === undefined ? {} : { jobId }), data: parsed }, 'job')],
      where: () => 'job',
    }
  }
  if (data !== undefined)
    throw new UserError('INPUT_INVALID', '--data: cannot stand beside --file; put the data into the lines of the file')
  if (jobId !== undefined)
    throw new UserError('INPUT_INVALID', '--job-id: cannot stand beside --file; put a jobId into each line')
  if (file === '-') return readJobLines(process.stdin, 'standard input', commonOf(flags))
  const found = await stat(file).catch((error: unknown) => {
    throw new UserError('INPUT_INVALID', `--file: ${file} cannot be read (${messageOf(error)}); correct the path`)
  })
  if (found.isDirectory()) throw new UserError('INPUT_INVALID', `--file: ${file} is a folder; name a file with one job a line`)
  return readJobLines(createReadStream(file), basename(file), commonOf(flags))
}

function commonOf({ name, group, priority, delay, attempts }: EnqueueFlags): JobInput {
  return {
    ...(name === undefined ? {} : { name }),
    ...(group === undefined ? {} : { group }),
    ...(priority === undefined ? {} : { priority }),
    ...(delay === undefined ? {} : { delay }),
    ...(attempts === undefined ? {} : { attempts }),
  }
}

/** Allowed, since a producer may have no config; with one it is most likely a slip. */
function noteUnknownQueue(context: CliContext, queue: string, configured: readonly string[]): void {
  if (configured.length === 0 || configured.includes(queue)) return
  context.terminal.note(`unstuck: note: queue ${queue} is not in the config (configured: ${configured.join(', ')})`)
}

function sayDryRun(context: CliContext, queue: string, count: number): void {
  if (context.json) context.printJson({ dryRun: true, queue, jobs: count })
  else context.terminal.line(`dry run: ${count} ${count === 1 ? 'job' : 'jobs'} would be added to ${queue}`)
}
