/** Threads that are ended while they are in the way of it, and the pool that must be whole afterwards. Needs `dist/`. */
import { execFileSync } from 'node:child_process'
import { closeSync, mkdtempSync, openSync, read, readFileSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import { PiscinaExecutor } from '../../src/dispatch/piscina-executor.js'
import type { ThreadTask } from '../../src/dispatch/thread-protocol.js'
import { viewThread } from '../../src/stackdump/node-proc-threads.js'
import { QUEUE, testBoard } from '../support/boards.js'
import { type Deferred, deferred } from '../support/deferred.js'

const readBytes = promisify(read)
const HANDLER = fileURLToPath(new URL('../fixtures/stubborn.mjs', import.meta.url))
const THREAD = new URL('../../dist/processes/task-thread.js', import.meta.url)
const KILLED = { ok: 'lost', loss: { kind: 'lost', message: 'thread terminated: job_silent for 9 s', ordered: true } }
const NEIGHBOUR = { ok: 'lost', loss: { kind: 'neighbour' } }

interface Begun {
  readonly id: string
  readonly tid: number
  readonly threadId: number
}

function setup({ threads = 1, jobsPerThread = 1, tids = true } = {}) {
  const { board } = testBoard()
  const begun = new Map<string, Deferred<Begun>>()
  const zombies: number[] = []
  const firstZombie = deferred<number>()
  const onTooManyZombies = vi.fn()
  const executor = new PiscinaExecutor({
    board,
    queueIndex: QUEUE,
    handler: HANDLER,
    threads,
    jobsPerThread,
    tickMs: 25,
    threadModule: THREAD,
    onLog: ({ message }) => {
      const said = JSON.parse(message) as Begun
      begun.get(said.id)?.resolve(said)
    },
    onError: (error) => {
      throw error
    },
    onZombie: (threadId) => {
      zombies.push(threadId)
      firstZombie.resolve(threadId)
    },
    onTooManyZombies,
    ...(tids ? {} : { tidOf: () => undefined }),
  })
  onTestFinished(() => executor.stop())

  let last = 0
  /** The cell is freed with the attempt, as the worker does. */
  const start = (data: object) => {
    last += 1
    const id = `j${last}`
    const ref = board.claimJob(QUEUE, id, 1, 1)
    if (!ref) throw new Error('no cell')
    const task: ThreadTask = {
      ...ref,
      id,
      name: 'send',
      queue: 'mail',
      data: { ...data, id },
      group: undefined,
      attempt: 1,
      fence: 1,
    }
    const heard = deferred<Begun>()
    begun.set(id, heard)
    const end = executor.run(task).finally(() => board.freeJob(ref))
    return { ref, begun: heard.promise, end, kill: () => executor.kill(ref, 'job_silent for 9 s') }
  }
  /** Every place of the pool is taken at the same time. @returns the threads that did it */
  const fill = async () => {
    const jobs = Array.from({ length: threads * jobsPerThread }, () => start({ do: 'wait' }))
    return new Set((await Promise.all(jobs.map((job) => job.begun))).map(({ threadId }) => threadId))
  }
  const threadIds = () => board.readThreads().map(({ threadId }) => threadId)
  const gone = (threadId: number) => vi.waitFor(() => expect(threadIds()).not.toContain(threadId), { timeout: 10_000 })
  return { board, executor, start, fill, gone, threadIds, zombies, firstZombie: firstZombie.promise, onTooManyZombies }
}

function fifo() {
  const folder = mkdtempSync(join(tmpdir(), 'unstuck-kills-'))
  const path = join(folder, 'fifo')
  execFileSync('sh', ['-c', 'mkfifo "$0"', path])
  // Keeps what is written until it is read, and lets nobody wait for the other side.
  const fd = openSync(path, 'r+')
  onTestFinished(() => {
    closeSync(fd)
    rmSync(folder, { recursive: true })
  })
  return {
    path,
    release: (readers = 1) => writeSync(fd, 'x'.repeat(readers)),
    /** The process ids that somebody writes into it. */
    pids: async () =>
      (await readBytes(fd, Buffer.alloc(100), 0, 100, null)).buffer.toString().split(/[ \n]/).slice(0, 2).map(Number),
  }
}

/** It said so just before: an order that came in between would find it in JavaScript yet. */
const inRead = ({ tid }: Begun, file: string) =>
  vi.waitFor(() => expect(viewThread(tid)).toMatchObject({ state: 'file', file }), { timeout: 10_000, interval: 5 })

/** Nothing else that it does after it began takes so long. */
function inNativeCall({ tid }: Begun): Promise<void> {
  const cpuMs = () => Number(readFileSync(`/proc/self/task/${tid}/schedstat`, 'utf8').split(' ')[0]) / 1e6
  const before = cpuMs()
  return vi.waitFor(() => expect(cpuMs() - before).toBeGreaterThan(50), { timeout: 10_000, interval: 5 })
}

function isRunning(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2))
  } catch {
    return false
  }
}

describe.each([1, 2])('a thread that is ended, with %i jobs a thread', (jobsPerThread) => {
  it.each(['wait', 'loop', 'atomics'])('in %s is gone at once', async (deed) => {
    const { executor, start, fill, gone, zombies } = setup({ jobsPerThread })
    const job = start({ do: deed })
    const { threadId } = await job.begun
    job.kill()
    expect(await job.end).toEqual(KILLED)
    await gone(threadId)
    expect(await fill()).not.toContain(threadId)
    expect(executor.zombies).toBe(0)
    expect(zombies).toEqual([])
  })

  it('that waits for a command is freed by the end of all that the command started', async () => {
    const { executor, start, fill, gone } = setup({ jobsPerThread })
    const { path, pids: written } = fifo()
    const job = start({ do: 'shell', fifo: path })
    const { threadId } = await job.begun
    const pids = await written()
    expect(pids.map(isRunning)).toEqual([true, true])
    job.kill()
    expect(await job.end).toEqual(KILLED)
    expect(await fill()).not.toContain(threadId)
    await gone(threadId)
    await vi.waitFor(() => expect(pids.map(isRunning)).toEqual([false, false]))
    expect(executor.zombies).toBe(0)
  })

  it('in a read that never returns is a zombie until it returns, and the pool is whole meanwhile', async () => {
    const { executor, start, fill, gone, threadIds, firstZombie, onTooManyZombies } = setup({ jobsPerThread })
    const { path, release } = fifo()
    const job = start({ do: 'fifo', fifo: path })
    const { threadId } = await job.begun
    await inRead(await job.begun, path)
    job.kill()
    expect(await job.end).toEqual(KILLED)
    expect(await fill()).not.toContain(threadId)
    expect(await firstZombie).toBe(threadId)
    expect(executor.zombies).toBe(1)
    expect(threadIds()).toHaveLength(2)
    expect(onTooManyZombies).not.toHaveBeenCalled()

    release()
    await gone(threadId)
    expect(executor.zombies).toBe(0)
  })

  it('in a native call ends with the call, and is no zombie', async () => {
    const { executor, start, fill, gone, threadIds, zombies } = setup({ jobsPerThread })
    const job = start({ do: 'derive', ms: 1000 })
    const { threadId } = await job.begun
    await inNativeCall(await job.begun)
    job.kill()
    expect(await job.end).toEqual(KILLED)
    expect(await fill()).not.toContain(threadId)
    expect(threadIds()).toContain(threadId)
    await gone(threadId)
    expect(executor.zombies).toBe(0)
    expect(zombies).toEqual([])
  })

  it('leaves a whole pool, fifty times in a row', async () => {
    const { executor, start, fill, threadIds } = setup({ threads: 2, jobsPerThread })
    for (let round = 0; round < 50; round += 1) {
      const job = start({ do: ['wait', 'loop', 'atomics'][round % 3] })
      await job.begun
      job.kill()
      expect(await job.end).toEqual(KILLED)
    }
    expect((await fill()).size).toBe(2)
    await vi.waitFor(() => expect(threadIds()).toHaveLength(2))
    expect(executor.zombies).toBe(0)
  })
})

describe('a thread of several jobs that is ended because of one', () => {
  it.each(['loop', 'fifo'])('in %s gives the others back', async (deed) => {
    const { start } = setup({ jobsPerThread: 3 })
    const { path, release } = fifo()
    const begun = start({ do: 'wait' })
    await begun.begun
    const culprit = start({ do: deed, fifo: path })
    await culprit.begun
    const waiting = start({ do: 'reply' })
    culprit.kill()
    expect(await culprit.end).toEqual(KILLED)
    expect(await begun.end).toEqual(NEIGHBOUR)
    expect(await waiting.end).toEqual(NEIGHBOUR)
    release()
  })

  it('charges each of those that were ordered together', async () => {
    const { start } = setup({ jobsPerThread: 2 })
    const [first, second] = [start({ do: 'wait' }), start({ do: 'wait' })]
    await Promise.all([first.begun, second.begun])
    first.kill()
    second.kill()
    expect(await Promise.all([first.end, second.end])).toEqual([KILLED, KILLED])
  })

  it('is not, when the job has not begun on it', async () => {
    const { start, threadIds } = setup({ jobsPerThread: 2 })
    const { path, release } = fifo()
    const before = start({ do: 'fifo', fifo: path })
    const { threadId } = await before.begun
    const after = start({ do: 'reply' })
    after.kill()
    await new Promise((resolve) => setImmediate(resolve))
    release()
    expect(await before.end).toMatchObject({ ok: true })
    expect(await after.end).toEqual({ ok: true, json: '"done"' })
    expect(threadIds()).toEqual([threadId])
  })
})

describe('an order', () => {
  it('means the job that has the cell now, not an older one that was handed back and still runs', async () => {
    const { board, start } = setup({ threads: 2 })
    const { path, release } = fifo()
    const older = start({ do: 'fifo', fifo: path })
    await older.begun
    board.freeJob(older.ref)
    const newer = start({ do: 'wait' })
    await newer.begun
    expect(newer.ref.cell).toBe(older.ref.cell)
    older.kill()
    release()
    expect(await older.end).toMatchObject({ ok: true })
    newer.kill()
    expect(await newer.end).toEqual(KILLED)
  })
})

describe('a pool', () => {
  it('says once that there are more zombies than it has threads', async () => {
    const { executor, start, fill, threadIds, zombies, onTooManyZombies } = setup()
    const { path, release } = fifo()
    for (let round = 0; round < 3; round += 1) {
      const job = start({ do: 'fifo', fifo: path })
      await inRead(await job.begun, path)
      job.kill()
      await job.end
    }
    await vi.waitFor(() => expect(zombies).toHaveLength(3), { timeout: 10_000 })
    expect(onTooManyZombies).toHaveBeenCalledOnce()
    expect((await fill()).size).toBe(1)
    release(3)
    await vi.waitFor(() => expect(threadIds()).toHaveLength(1))
    expect(executor.zombies).toBe(0)
  })

  it('lets a command run that it cannot see, and replaces the thread all the same', async () => {
    const { start, fill, firstZombie } = setup({ tids: false })
    const { path, pids: written } = fifo()
    const job = start({ do: 'shell', fifo: path })
    const { threadId } = await job.begun
    const pids = await written()
    job.kill()
    expect(await fill()).not.toContain(threadId)
    expect(await firstZombie).toBe(threadId)
    expect(pids.map(isRunning)).toEqual([true, true])
    for (const pid of pids) process.kill(pid, 'SIGKILL')
  })

  it('loses no thread when a job is taken back that waits for one', async () => {
    const { start, threadIds } = setup()
    const running = start({ do: 'wait' })
    const { threadId } = await running.begun
    const waiting = start({ do: 'reply' })
    waiting.kill()
    expect(await waiting.end).toEqual(KILLED)
    expect(threadIds()).toEqual([threadId])
  })

  it('replaces a crashed thread also after a job was taken back while a thread started', async () => {
    const { start, gone, threadIds } = setup({ threads: 2 })
    const { path, release } = fifo()
    const [ended, reading] = [start({ do: 'wait' }), start({ do: 'fifo', fifo: path })]
    const { threadId } = await ended.begun
    await inRead(await reading.begun, path)
    const waiting = start({ do: 'wait' })
    ended.kill()
    await ended.end
    // Its thread is free before the new one has started: the job that waits could go to either.
    release()
    await reading.end
    waiting.kill()
    expect(await waiting.end).toEqual(KILLED)
    await gone(threadId)

    const crashing = start({ do: 'exit' })
    await gone((await crashing.begun).threadId)
    expect(await crashing.end).toMatchObject({ loss: { kind: 'lost', ordered: false } })
    await vi.waitFor(() => expect(threadIds()).toHaveLength(2))
  })

  it('that is stopped ends the command that a thread waits for', async () => {
    const { executor, start } = setup()
    const { path, pids: written } = fifo()
    const job = start({ do: 'shell', fifo: path })
    await job.begun
    const pids = await written()
    await executor.stop()
    expect(await job.end).toMatchObject({ loss: { kind: 'lost', ordered: true } })
    await vi.waitFor(() => expect(pids.map(isRunning)).toEqual([false, false]))
  })
})
