/** Stack dumps of wedges in a real supervisor, asked for by a real watchdog: what its lines, Redis and the command line say. */
import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Queue } from 'bullmq'
import { describe, expect, it, onTestFinished } from 'vitest'
import { readBeats } from '../../src/heartbeat/redis-heartbeats.js'
import { fleetKeys } from '../../src/platform/redis-keys.js'
import type { Dump } from '../../src/stackdump/dump.js'
import { frameText } from '../../src/stackdump/frames.js'
import { askForDump } from '../../src/stackdump/redis-dump-requests.js'
import { awaitAnswer, listDumps, readDump } from '../../src/stackdump/redis-dumps.js'
import { cli } from '../support/cli.js'
import { type LogLine, type Running, type Scene, scene, until } from '../support/processes.js'

const HANDLER = resolve(import.meta.dirname, '../fixtures/wedges/handler.mjs')
const WEDGED_MAIN = resolve(import.meta.dirname, '../fixtures/wedge-main.mjs')
const keys = fleetKeys('{unstuck}')

/** In job data, variables and arguments of every job; and in the environment. */
const SECRETS = { data: 'marked-secret-of-a-job', env: 'marked-secret-of-the-environment' }

const HEARTBEAT_MS = 500
const SILENT_MS = 2000
const quick = {
  heartbeat: { intervalMs: HEARTBEAT_MS, timeoutMs: 3000, loopBlockedMs: 1500, threadBlockedMs: 1500 },
  watchdog: { intervalMs: 500 },
}

interface Setup {
  readonly threads?: number
  readonly queue?: object
  readonly watchdog?: object
  readonly env?: NodeJS.ProcessEnv
}

async function setup({ threads = 1, queue = {}, watchdog = {}, env = {} }: Setup = {}) {
  const stage = await scene()
  const queues = { jobs: { handler: HANDLER, threads, silentAfterMs: SILENT_MS, ...queue } }
  const config = stage.config('supervisor', { ...quick, queues, supervisor: { name: 's1' } })
  const watching = { ...quick, queues, watchdog: { ...quick.watchdog, ...watchdog } }
  const watcher = await stage.watchdog(stage.config('watchdog', watching))
  const secretive = { ...env, MARKED: SECRETS.env }
  const supervisor = await stage.supervisor(config, [], { env: secretive, preload: WEDGED_MAIN })
  const jobs = new Queue('jobs', { connection: { url: stage.redis.url, maxRetriesPerRequest: null } })
  onTestFinished(() => jobs.close())
  const fifo = await startFifo(stage)
  await judging(watcher)
  const { client, redis } = stage
  return {
    client,
    supervisor,
    watcher,
    jobs,
    add: (kind: string) => jobs.add(kind, { kind, fifo, secret: SECRETS.data }, { jobId: kind, attempts: 3 }),
    /** The line that a thread or job got stuck, by the id of the job. */
    stuck: (jobId: string) => watcher.line((line) => line.event === 'stuck' && line['jobId'] === jobId),
    seen: async () => (await readBeats(client, keys, ['s1']))[0],
    kept: async (line: LogLine) => dumpOf(await readDump(client, keys, String(line['dumpId']))),
    incidents: async () => (await cli(['incidents', '--json', '--redis', redis.url], { cwd: stage.dir })).stdout,
  }
}

/** Just after its start a watchdog may be blind for a while, and a stuck job ended before it is seen. */
async function judging(watcher: Running): Promise<void> {
  const { msg } = await watcher.line(({ event }) => event === 'started')
  const address = /http:\S+/.exec(msg)?.[0] ?? ''
  await until(
    async () => await (await fetch(`${address}/readyz`)).json(),
    (body) => JSON.stringify(body) === '{"status":"ok"}',
  )
}

/** Whoever reads it waits until the test ends. */
async function startFifo({ dir }: Scene): Promise<string> {
  const path = join(dir, 'fifo')
  execFileSync('mkfifo', [path])
  const writer = await open(path, 'r+')
  onTestFinished(() => writer.close())
  return path
}

function dumpOf(dump: Dump | undefined): Dump {
  if (!dump) throw new Error('the dump is not there')
  return dump
}

/** `file:line` of the line that bears this mark. */
function placeOf(file: string, mark: string): string {
  const at = readFileSync(file, 'utf8')
    .split('\n')
    .findIndex((line) => line.endsWith(`// HERE ${mark}`))
  return `${file}:${at + 1}`
}

function framesOf({ samples, suspended = [] }: Dump): string {
  return [...samples, ...suspended].flatMap(({ frames }) => frames.map(frameText)).join('\n')
}

/** Addresses on which this process listens, TCP of both kinds. */
function listeningOf(pid: number): string[] {
  const fds = `/proc/${pid}/fd`
  const sockets = new Set(
    readdirSync(fds).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(join(fds, fd)))?.[1] ?? []
      } catch {
        return []
      }
    }),
  )
  const rows = ['tcp', 'tcp6'].flatMap((kind) =>
    String(readFileSync(`/proc/${pid}/net/${kind}`))
      .trim()
      .split('\n')
      .slice(1),
  )
  const fields = rows.map((row) => row.trim().split(/\s+/))
  return fields.flatMap(([, address = '', , state, , , , , , inode = '']) =>
    state === '0A' && sockets.has(inode) ? address : [],
  )
}

/** All that the fleet keeps in Redis, BullMQ's jobs left out. */
async function fleetTexts({ client }: Pick<Scene, 'client'>): Promise<string> {
  const names = await client.keys('{unstuck}:*')
  const texts = await Promise.all(
    names.map(async (name) => {
      const kind = await client.type(name)
      if (kind === 'string') return client.get(name)
      if (kind === 'hash') return client.hgetall(name)
      if (kind === 'list') return client.lrange(name, 0, -1)
      if (kind === 'stream') return client.xrange(name, '-', '+')
      return kind === 'set' ? client.smembers(name) : client.zrange(name, '0', '-1')
    }),
  )
  return JSON.stringify([names, texts])
}

/** Looks again and again until `end`. @returns the greatest age of a beat that it met, milliseconds */
async function oldestBeat(seen: () => Promise<{ ageMs: number } | undefined>, end: Promise<unknown>): Promise<number> {
  let ended = false
  let oldest = 0
  const over = end.finally(() => {
    ended = true
  })
  while (!ended) {
    oldest = Math.max(oldest, (await seen())?.ageMs ?? 0)
    await Promise.race([over, new Promise((done) => setTimeout(done, 25))])
  }
  await over
  return oldest
}

/** Kind of wedge, class of its dump, the function that the line must name on the marked line of the same name, what else is in it. */
const JAVASCRIPT = [
  ['loop', 'running', 'loopForEver', 'handle'],
  ['regex', 'running', 'matchForEver', 'RegExp.test'],
  ['atomics', 'running', 'waitForEver', 'Atomics.wait'],
  ['storm', 'storm', 'stormForEver', ''],
  ['hung', 'awaiting', 'charge', ''],
] as const

const NATIVE = [
  ['execSync', /waits for child process \d+ sh/],
  ['fifo', /blocked in read on descriptor \d+ .*fifo/],
] as const

const KINDS = [...JAVASCRIPT, ...NATIVE].map(([kind]) => kind)

describe('a stuck job', () => {
  it('is shown where it is, whatever holds its thread, while the supervisor beats on, listens nowhere and tells no secret', async () => {
    const scene = await setup({ threads: KINDS.length + 1 })
    const { add, stuck, kept, seen, client, supervisor, watcher } = scene
    const listening = listeningOf(supervisor.pid)
    const dumping = Promise.all(
      KINDS.map(async (kind) => {
        await add(kind)
        const line = await stuck(kind)
        expect(listeningOf(supervisor.pid)).toEqual(listening)
        return [kind, { line, dump: await kept(line) }] as const
      }),
    )
    const oldest = await oldestBeat(seen, dumping)
    const found = new Map<string, { line: LogLine; dump: Dump }>(await dumping)

    for (const [kind, expected, fn, also] of JAVASCRIPT) {
      const { line, dump } = found.get(kind) ?? expect.unreachable()
      expect(line).toMatchObject({ cause: kind === 'hung' ? 'job_silent' : 'thread_blocked', dumpId: dump.id })
      const why = `${dump.class}: ${dump.notes.join('; ')}; ${dump.kernel?.summary}`
      expect(line['topFrame'], why).toBe(`${fn} (${placeOf(HANDLER, kind)})`)
      expect(line.msg).toMatch(new RegExp(`^STUCK .*, at ${fn} \\(.*handler\\.mjs:\\d+\\)$`))
      expect(dump).toMatchObject({ class: expected, supervisor: 's1', subject: { queue: 'jobs' } })
      expect(framesOf(dump)).toContain(also)
    }
    for (const [kind, summary] of NATIVE) {
      const { line, dump } = found.get(kind) ?? expect.unreachable()
      expect(line).toMatchObject({ cause: 'thread_blocked', dumpId: dump.id, topFrame: expect.stringMatching(summary) })
      expect(dump.class).toBe('native')
      expect(line['topFrame']).toBe(`native code (${dump.kernel?.summary})`)
    }
    expect(found.get('hung')?.dump.steps).toMatchObject([{ name: 'fetch rates', job: 'hung', enteredAt: { fn: 'charge' } }])
    // A beat is due every half second; while it is out, and on a crowded machine, it grows somewhat older.
    expect(oldest).toBeLessThan(3 * HEARTBEAT_MS)
    expect(watcher.lines.filter(({ cause }) => cause === 'process_dead' || cause === 'loop_blocked')).toEqual([])

    const deep = await deepDump(scene, found.get('hung')?.dump)
    expect(deep.suspended?.[0]?.frames.map(({ fn }) => fn)).toEqual(
      expect.arrayContaining(['fetchRates', 'convertPrices', 'charge']),
    )
    expect(framesOf(deep)).toContain(placeOf(HANDLER, 'suspended'))
    expect(listeningOf(supervisor.pid)).toEqual(listening)
    const told = `${await fleetTexts({ client })}${supervisor.output()}${watcher.output()}`
    expect(told).toContain(deep.id)
    for (const secret of Object.values(SECRETS)) expect(told).not.toContain(secret)
  })

  it('is not looked at when watchdog.dumpOnStuck is off, and the line is as it was', async () => {
    const { add, stuck, client } = await setup({ watchdog: { dumpOnStuck: false } })
    await add('loop')
    const line = await stuck('loop')
    expect(line.msg).toMatch(/^STUCK supervisor:s1\/thread:jobs:1: thread_blocked for [^,]+, in job loop$/)
    expect(line).not.toHaveProperty('dumpId')
    expect(line).not.toHaveProperty('topFrame')
    expect(await listDumps(client, keys, 's1')).toEqual([])
  })

  it('is looked at before its thread is ended for it, and the pool goes on', async () => {
    const { add, stuck, kept, jobs, supervisor } = await setup({ queue: { onStuck: 'terminate' } })
    await add('loop')
    const dump = await kept(await stuck('loop'))
    expect(framesOf(dump)).toContain(`loopForEver (${placeOf(HANDLER, 'loop')}`)
    expect(dump.at).toBeLessThanOrEqual(Number((await supervisor.line(({ event }) => event === 'terminated'))['time']))
    const next = await add('nothing')
    await until(
      () => next.getState(),
      (state) => state === 'completed',
    )
    const ended = await jobs.getJob('loop')
    expect(ended?.failedReason).toMatch(/^thread terminated/)
  })

  it('is looked at before its thread is ended though no watchdog asks for it', async () => {
    const { add, supervisor, client } = await setup({ queue: { onStuck: 'terminate' }, watchdog: { dumpOnStuck: false } })
    await add('atomics')
    await supervisor.line(({ event }) => event === 'terminated')
    const [id = '', ...more] = await listDumps(client, keys, 's1')
    expect(more).toEqual([])
    const dump = dumpOf(await readDump(client, keys, id))
    expect(framesOf(dump)).toContain(`waitForEver (${placeOf(HANDLER, 'atomics')}`)
  })
})

/** Asked for by hand, of the thread that an earlier dump was of. */
async function deepDump({ client, seen }: Pick<Awaited<ReturnType<typeof setup>>, 'client' | 'seen'>, of: Dump | undefined) {
  const incarnation = (await seen())?.incarnation ?? ''
  const target = of === undefined || of.subject === 'main' ? 'main' : { queue: of.subject.queue, thread: of.subject.number }
  const order = { kind: 'dump', request: 'deep-1', targets: [target], deep: true } as const
  await askForDump(client, keys, { supervisor: 's1', incarnation }, order)
  const answer = await awaitAnswer(client, keys, 'deep-1', 20_000)
  return dumpOf(await readDump(client, keys, answer?.dumps[0]?.id ?? ''))
}

describe('a stuck main thread', () => {
  const blocked = (line: LogLine) => line.event === 'stuck' && line['cause'] === 'loop_blocked'

  it('in a loop is shown with the frame of the loop, which the end and the list of incidents bear too', async () => {
    const { supervisor, watcher, kept, incidents } = await setup({ env: { WEDGE: 'spin', WEDGE_MS: '4000' } })
    supervisor.kill('SIGUSR2')
    const line = await watcher.line(blocked)
    const topFrame = `spinOnMain (${placeOf(WEDGED_MAIN, 'spin')})`
    expect(line).toMatchObject({ subject: 'supervisor:s1/main', topFrame })
    expect(await kept(line)).toMatchObject({ id: line['dumpId'], class: 'running', subject: 'main' })
    const note = { incidentId: line['incidentId'], dumpId: line['dumpId'], topFrame }
    const open = JSON.parse(await incidents()) as LogLine[]
    expect(open).toEqual(expect.arrayContaining([expect.objectContaining(note)]))
    const end = await watcher.line(({ event }) => event === 'resumed')
    expect(end).toMatchObject({ ...note, outcome: 'recovered' })
    expect(JSON.parse(await incidents())).toEqual(
      expect.arrayContaining([expect.objectContaining({ ...note, outcome: 'recovered' })]),
    )
  })

  it('that waits for a child process is native, and the kernel says for which', async () => {
    const { supervisor, watcher, kept } = await setup({ env: { WEDGE: 'exec', WEDGE_MS: '4000' } })
    supervisor.kill('SIGUSR2')
    const line = await watcher.line(blocked)
    expect(line['topFrame']).toMatch(/^native code \(waits for child process \d+ (sh|sleep)/)
    const dump = await kept(line)
    expect(dump).toMatchObject({ class: 'native', subject: 'main', samples: [] })
    expect(dump.notes.join('\n')).toContain('it is in native code')
    await watcher.line(({ event }) => event === 'resumed')
  })
})
