/** `unstuck dump`: where the threads of a supervisor are now, or were when a dump was kept. */
import type { Command } from 'commander'
import { UserError } from '../kernel/errors.js'
import { socketFolder } from '../platform/socket-folder.js'
import type { Dump } from '../stackdump/dump.js'
import { targetsNamed } from '../stackdump/dump-target.js'
import { askLocally } from '../stackdump/node-dump-socket.js'
import { dumpLimitMs } from '../stackdump/redis-dump-calls.js'
import { renderDump } from '../stackdump/render-dump.js'
import { type CliContext, contextOf } from './context.js'
import { EXIT } from './exit.js'
import { printable, type Terminal } from './terminal.js'

export interface DumpFlags {
  readonly thread?: string
  readonly deep?: boolean
  readonly local?: boolean
  readonly id?: string
}

export function addDumpCommand(program: Command): void {
  program
    .command('dump [supervisor]')
    .description('where each thread of a supervisor is now: its stack, steps, or what the kernel says')
    .option('--thread <thread>', 'only this one: main, or QUEUE:N with its place in the queue, from 1')
    .option('--deep', 'also find suspended async functions; takes seconds, in which the thread stands still')
    .option('--local', 'ask on this host, without Redis')
    .option('--id <id>', 'show this one, which was kept, instead')
    .action(async (supervisor: string | undefined, flags: DumpFlags, command: Command) => {
      const wish = dumpWish(supervisor, flags)
      await (wish.kind === 'kept' ? showKept(contextOf(command), wish.id) : showNew(contextOf(command), wish))
    })
}

interface NewDump {
  readonly kind: 'local' | 'remote'
  readonly supervisor: string
  readonly thread?: string
  readonly deep: boolean
}

/** @throws UserError INPUT_INVALID for what cannot stand together */
export function dumpWish(supervisor: string | undefined, flags: DumpFlags): NewDump | { kind: 'kept'; id: string } {
  const { thread, deep = false, local = false, id } = flags
  if (id === undefined) {
    if (supervisor === undefined)
      throw new UserError('INPUT_INVALID', 'dump: of which supervisor? name one, or a kept dump with --id ID')
    return { kind: local ? 'local' : 'remote', supervisor, deep, ...(thread === undefined ? {} : { thread }) }
  }
  const others = { [`supervisor ${supervisor}`]: supervisor, '--thread': thread, '--deep': deep, '--local': local }
  const [beside] = Object.entries(others).find(([, given]) => given !== undefined && given !== false) ?? []
  if (beside !== undefined)
    throw new UserError(
      'INPUT_INVALID',
      `${beside}: cannot stand beside --id, which shows what was kept; leave one of them out`,
    )
  return { kind: 'kept', id }
}

async function showKept(context: CliContext, id: string): Promise<void> {
  await context.withDispatcher(await context.config({ handlersMustExist: false }), async (dispatcher) => {
    const dump = await dispatcher.readDump(id)
    if (!dump)
      throw new UserError(
        'DUMP_UNKNOWN',
        `dump:${id}: there is none of this id; they are kept for a day, the newest 100 of each supervisor`,
      )
    show(context, dump, [dump])
  })
}

async function showNew(context: CliContext, { kind, supervisor, ...options }: NewDump): Promise<void> {
  if (kind === 'local') {
    const targets = targetsNamed(options.thread)
    const dumps = await askLocally(socketFolder(), supervisor, targets, options.deep, dumpLimitMs(options))
    show(context, dumps, dumps)
    return
  }
  await context.withDispatcher(await context.config({ handlersMustExist: false }), async (dispatcher) => {
    const dumps = await dispatcher.dump(supervisor, options)
    show(context, dumps, dumps)
  })
}

function show(context: CliContext, json: object, dumps: readonly Dump[]): void {
  if (context.json) context.printJson(json)
  else for (const line of dumpLines(dumps, context.terminal)) context.terminal.line(line)
  context.finish(dumps.length === 0 ? EXIT.problem : EXIT.fine)
}

/** Names of functions and steps come from job code. */
export function dumpLines(dumps: readonly Dump[], terminal: Pick<Terminal, 'paint'>): string[] {
  if (dumps.length === 0) return ['no dump']
  return dumps.flatMap((dump, index) => {
    const [title = '', ...lines] = renderDump(dump).map(printable)
    return [...(index === 0 ? [] : ['']), terminal.paint('bold', title), ...lines]
  })
}
