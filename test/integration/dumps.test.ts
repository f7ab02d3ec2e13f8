/** Stack dumps of real threads that are wedged in every way that we know, taken by a sentinel. Needs `dist/`. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type DumpCore, topFrame } from '../../src/stackdump/dump.js'
import { frameText } from '../../src/stackdump/frames.js'
import { canReadThreads } from '../../src/stackdump/node-proc-threads.js'

const PROCESS = fileURLToPath(new URL('../fixtures/wedges/process.mjs', import.meta.url))
const JOBS = fileURLToPath(new URL('../fixtures/wedges/jobs.mjs', import.meta.url))

/** Far above what is measured (20 to 60 ms, and 400 more in native code): the machine that tests run on may be crowded. */
const GENEROUS_MS = 5000

interface Said {
  readonly event: string
  readonly threadId?: number
  readonly target?: number | 'main'
  readonly core?: DumpCore
  readonly cores?: readonly DumpCore[]
  /** Longest rest of the sentinel's own event loop during the dump. */
  readonly longestMs?: number
  readonly url?: string | null
  readonly [field: string]: unknown
}

/** `jobs.mjs:12`, by the mark on the line. */
function lineOf(kind: string): string {
  const line = readFileSync(JOBS, 'utf8')
    .split('\n')
    .findIndex((text) => text.endsWith(`// HERE ${kind}`))
  return `${JOBS}:${line + 1}`
}

async function setup(nodeOptions: readonly string[] = []) {
  const folder = mkdtempSync(join(tmpdir(), 'unstuck-wedges-'))
  const fifo = join(folder, 'fifo')
  execFileSync('sh', ['-c', 'mkfifo "$0"', fifo])
  // Held open for writing, so that a reader waits for bytes that never come.
  const writer = await open(fifo, 'r+')
  // Its own group: what a job started ends with it.
  const child = spawn(process.execPath, [...nodeOptions, PROCESS], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
    env: { ...process.env, TMPDIR: folder },
  })
  const heard = listen(child)
  onTestFinished(async () => {
    if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    await writer.close()
    rmSync(folder, { recursive: true })
  })
  const tell = (command: string, fields: object = {}) => child.stdin?.write(`${JSON.stringify({ command, fifo, ...fields })}\n`)
  await heard('ready')

  const dump = async (target: number | 'main', options: object = {}) => {
    const answer = heard('dump')
    tell('tell', { do: 'dump', target, waitMs: 250, options })
    return coreIn(await answer)
  }
  return {
    child,
    folder,
    tell,
    heard,
    dump,
    /** Wedges a new thread. @returns its id */
    wedge: async (kind: string) => {
      const began = heard('began')
      tell('run', { kind })
      return (await began).threadId ?? 0
    },
  }
}

/** The next message of a kind; rejects when the process ends before. */
function listen(child: ChildProcess): (event: string) => Promise<Said> {
  const waiting: { event: string; resolve: (said: Said) => void; reject: (error: Error) => void }[] = []
  if (!child.stdout) throw new Error('no stdout')
  createInterface({ input: child.stdout }).on('line', (line) => {
    const said = JSON.parse(line) as Said
    const at = waiting.findIndex(({ event }) => event === said.event)
    if (at >= 0) waiting.splice(at, 1)[0]?.resolve(said)
  })
  child.once('exit', (code, signal) => {
    for (const { event, reject } of waiting) reject(new Error(`ended with ${code ?? signal} before it said ${event}`))
  })
  return (event) => new Promise((resolve, reject) => waiting.push({ event, resolve, reject }))
}

function coreIn({ core, longestMs = Number.POSITIVE_INFINITY }: Said): DumpCore {
  if (!core) throw new Error('no dump')
  // The heartbeat lives in the same thread.
  expect(longestMs).toBeLessThan(1000)
  return core
}

function measured(kind: string, core: DumpCore): void {
  process.stdout.write(
    `dump of ${kind}: ${core.class}, ${core.tookMs.toFixed(1)} ms, ${core.kernel?.summary ?? 'no kernel view'}\n`,
  )
  expect(core.tookMs).toBeLessThan(GENEROUS_MS)
}

function textOf({ samples }: DumpCore): string {
  return samples.flatMap(({ frames }) => frames.map(frameText)).join('\n')
}

/** Class, and function that must stand on the marked line. */
const RUNNING = [
  ['loop', 'running', 'loopForEver', undefined],
  ['regex', 'running', 'matchForEver', 'RegExp.test'],
  ['atomics', 'running', 'waitForEver', 'Atomics.wait'],
  ['wasm', 'running', 'spinInWasm', 'wasm-function[0]'],
  ['storm', 'storm', 'stormForEver', undefined],
] as const

const NATIVE = [
  ['execSync', /waits for child process \d+ sh → \d+ sleep|waits for child process \d+ sleep/],
  ['fifo', /blocked in read on descriptor \d+ .*fifo/],
  ['pbkdf2', /on a processor/],
] as const

describe('a dump of a wedged task thread', () => {
  it.each(RUNNING)('%s: is %s, and names %s', async (kind, expected, fn, builtin) => {
    const { wedge, dump } = await setup()
    const core = await dump(await wedge(kind))
    measured(kind, core)
    expect(core.class).toBe(expected)
    expect(topFrame(core)).toContain(fn)
    expect(topFrame(core)).toContain(lineOf(kind))
    if (builtin) expect(textOf(core)).toContain(builtin)
    expect(core.notes).toEqual([])
  })

  it('ticks: names the function that fills the loop, whether a look finds it or a pause', async () => {
    const { wedge, dump } = await setup()
    const core = await dump(await wedge('ticks'))
    measured('ticks', core)
    // When each look finds it on the stack it is like any other function that does not end.
    expect(['storm', 'running']).toContain(core.class)
    expect(topFrame(core)).toContain(lineOf('ticks'))
  })

  it.each(NATIVE)('%s: is native, and the kernel says what it does', async (kind, summary) => {
    const { wedge, dump } = await setup()
    const core = await dump(await wedge(kind), { busy: true })
    measured(kind, core)
    expect(core.class).toBe('native')
    if (canReadThreads()) expect(core.kernel?.summary).toMatch(summary)
    expect(core.notes).toEqual(['it did not answer within 400 ms: it is in native code'])
  })

  it('hung: is awaiting, and names the step and the place where it was entered', async () => {
    const { wedge, dump } = await setup()
    const core = await dump(await wedge('hung'))
    measured('hung', core)
    expect(core).toMatchObject({ class: 'awaiting', steps: [{ name: 'fetch rates', job: 'j1' }] })
    expect(topFrame(core)).toContain('charge')
    expect(topFrame(core)).toContain(lineOf('step'))
  })

  it('hung, deep: names the line of each function that is suspended, and leaves no file', async () => {
    const { wedge, dump, folder } = await setup()
    const core = await dump(await wedge('hung'), { deep: true })
    process.stdout.write(`deep dump: ${core.tookMs.toFixed(0)} ms\n`)
    expect(core.suspended?.[0]?.frames.map(({ fn }) => fn).slice(0, 4)).toEqual([
      'fetchRates',
      'convertPrices',
      'step',
      'charge',
    ])
    expect(topFrame(core)).toBe(`fetchRates (${lineOf('hung')})`)
    expect(readdirSync(folder)).toEqual(['fifo'])
  })

  it('collected, deep: proves that the job can never end', async () => {
    const { wedge, dump } = await setup()
    const core = await dump(await wedge('collected'), { deep: true })
    expect(core.class).toBe('awaiting')
    expect(core.notes).toContain('job j1 can never end: what it waits for was collected by the garbage collector')
  })

  it('nothing: is parked', async () => {
    const { wedge, dump, heard } = await setup()
    const ended = heard('ended')
    const threadId = await wedge('nothing')
    await ended
    const core = await dump(threadId)
    measured('idle thread', core)
    expect(core.class).toBe('parked')
  })

  it('gone: says so', async () => {
    const { dump } = await setup()
    const core = await dump(4000)
    expect(core).toMatchObject({ class: 'unseen', samples: [] })
    expect(core.notes[0]).toBe('thread 4000 is not there: it has ended, or has not begun')
  })
})

describe('a dump of a wedged main thread', () => {
  it.each(RUNNING)('%s: is %s, and names %s', async (kind, expected, fn, builtin) => {
    const { tell, heard } = await setup()
    const answer = heard('dump')
    tell('block', { kind, targets: ['main'] })
    const core = coreIn(await answer)
    measured(`main in ${kind}`, core)
    expect(core.class).toBe(expected)
    expect(topFrame(core)).toContain(fn)
    expect(topFrame(core)).toContain(lineOf(kind))
    if (builtin) expect(textOf(core)).toContain(builtin)
  })

  it.each(NATIVE)('%s: is native, and the kernel says what it does', async (kind, summary) => {
    const { tell, heard } = await setup()
    const answer = heard('dump')
    tell('block', { kind, targets: ['main'] })
    const core = coreIn(await answer)
    measured(`main in ${kind}`, core)
    expect(core.class).toBe('native')
    if (canReadThreads()) expect(core.kernel?.summary).toMatch(summary)
  })

  it('that is idle is parked', async () => {
    const { dump } = await setup()
    const core = await dump('main')
    measured('idle main', core)
    expect(core.class).toBe('parked')
  })

  it('leaves the other threads to be seen: as they are while it runs JavaScript, by the kernel alone in native code', async () => {
    for (const [kind, notes] of [
      ['loop', []],
      ['execSync', ['the main thread is in native code and passes nothing on: no JavaScript stacks of other threads']],
    ] as const) {
      const { tell, heard, wedge } = await setup()
      const threadId = await wedge('regex')
      const answer = heard('dump')
      tell('block', { kind, targets: [threadId] })
      const core = coreIn(await answer)
      measured(`a thread while main is in ${kind}`, core)
      expect(core.notes).toEqual(notes)
      if (kind === 'loop') expect(topFrame(core)).toContain('matchForEver')
      if (canReadThreads()) expect(core.class).toBe('running')
    }
  })
})

describe('dumps', () => {
  it('of many threads come together', async () => {
    const { wedge, tell, heard } = await setup()
    const targets = ['main', await wedge('loop'), await wedge('hung'), await wedge('execSync')]
    await new Promise((resolve) => setTimeout(resolve, 250))
    const answer = heard('all')
    tell('tell', { do: 'all', targets })
    const { cores = [] } = await answer
    expect(cores.map((core) => core.class)).toEqual(['parked', 'running', 'awaiting', 'native'])
  })

  it.runIf(canReadThreads())('open no port', async () => {
    const { child, wedge, tell, heard } = await setup()
    const threadId = await wedge('storm')
    const answer = heard('dump')
    tell('tell', { do: 'dump', target: threadId, waitMs: 250 })
    const before = socketsOf(child.pid ?? 0)
    expect(await answer).toMatchObject({ url: null, core: { class: 'storm' } })
    expect([...before, ...socketsOf(child.pid ?? 0)]).toEqual([])
  })

  it('say what they cannot see where the inspector may not be used', async () => {
    const allowed = [
      // Its name in Node 20.
      process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission',
      '--allow-worker',
      '--allow-child-process',
      '--allow-fs-read=*',
      '--allow-fs-write=*',
      '--no-warnings',
    ]
    const { wedge, dump } = await setup(allowed)
    const core = await dump(await wedge('loop'), { busy: true })
    expect(core.class).toBe(canReadThreads() ? 'running' : 'unseen')
    expect(core.notes[0]).toMatch(/^the inspector may not be used: .*: no JavaScript stacks$/)
  })

  it('200 of them while threads start and end: no crash and, in turn with the ends, none of these lost', async () => {
    const { tell, heard } = await setup()
    const answer = heard('churned')
    tell('churn', { count: 200, serial: true })
    const said = await answer
    process.stdout.write(`churn: ${JSON.stringify(said)}\n`)
    expect(said).toMatchObject({ retries: 0, left: 0 })
    expect(said['ended']).toBeGreaterThan(10)
  })

  it('200 of them while threads end at any moment: no crash, and the second order ends what the first did not', async () => {
    const { tell, heard } = await setup()
    const answer = heard('churned')
    tell('churn', { count: 200, serial: false })
    const said = await answer
    process.stdout.write(`churn: ${JSON.stringify(said)}\n`)
    expect(said).toMatchObject({ left: 0 })
  })
})

/** Sockets of a process that listen or take datagrams, as lines of the kernel's tables. */
function socketsOf(pid: number): string[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? []
      } catch {
        return []
      }
    }),
  )
  return ['tcp', 'tcp6', 'udp', 'udp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .filter((line) => inodes.has(line.trim().split(/\s+/)[9] ?? '')),
  )
}
