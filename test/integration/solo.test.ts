/** Suspects in real processes of their own. Needs `dist/`. */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { ChildExecutor } from '../../src/dispatch/child-executor.js'
import type { ThreadLogLine, ThreadTask } from '../../src/dispatch/thread-protocol.js'
import { QUEUE, testBoard } from '../support/boards.js'
import { until } from '../support/processes.js'

const HANDLER = fileURLToPath(new URL('../fixtures/suspect.mjs', import.meta.url))
const PARENT = fileURLToPath(new URL('../fixtures/solo-parent.mjs', import.meta.url))
const SOLO = new URL('../../dist/processes/solo-process.js', import.meta.url)

interface SetupOptions {
  readonly handler?: string
  readonly soloModule?: URL
}

function setup({ handler = HANDLER, soloModule = SOLO }: SetupOptions = {}) {
  const { board, time } = testBoard()
  const lines: ThreadLogLine[] = []
  const waiting = new Set<() => void>()
  const executor = new ChildExecutor({
    board,
    handler,
    tickMs: 25,
    soloModule,
    onLog: (line) => {
      lines.push(line)
      for (const wake of waiting) wake()
    },
  })
  onTestFinished(() => executor.stop())
  const taskOf = (data: object, id = 'j1'): ThreadTask => {
    const ref = board.claimJob(QUEUE, id, 2, 3)
    if (!ref) throw new Error('no cell')
    return { ...ref, id, name: 'send', queue: 'mail', data, group: undefined, attempt: 2, fence: 3, alone: true }
  }
  return {
    board,
    time,
    executor,
    taskOf,
    /** A process that does this, from its start. */
    run: (data: object, id?: string) => {
      const task = taskOf(data, id)
      return { task, end: executor.run(task) }
    },
    /** The first line that a handler logged and that fits, now or when it comes. */
    logged: async (fits: (line: ThreadLogLine) => boolean = () => true): Promise<ThreadLogLine> => {
      for (;;) {
        const found = lines.find(fits)
        if (found) return found
        await new Promise<void>((resolve) => {
          const wake = () => {
            waiting.delete(wake)
            resolve()
          }
          waiting.add(wake)
        })
      }
    },
  }
}

/** One that ended is gone even while nobody has collected its exit code: in a container that may take seconds. */
function lives(pid: number): boolean {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  const stat = `/proc/${pid}/stat`
  return !existsSync(stat) || !/\) Z /.test(readFileSync(stat, 'utf8'))
}

function resultOf(end: Awaited<ReturnType<ChildExecutor['run']>>): unknown {
  return end.ok === true && end.json !== undefined ? (JSON.parse(end.json) as unknown) : end
}

describe('a suspect', () => {
  it('runs in a process of its own, with the view of its job and the environment of the supervisor', async () => {
    process.env['UNSTUCK_TEST_MARK'] = 'passed on'
    onTestFinished(() => {
      delete process.env['UNSTUCK_TEST_MARK']
    })
    const end = resultOf(await setup().run({ do: 'reply' }).end)
    expect(end).toEqual({
      job: { id: 'j1', name: 'send', queue: 'mail', data: { do: 'reply' }, attempt: 2 },
      fence: 3,
      pid: expect.any(Number),
      mark: 'passed on',
    })
    expect(end).not.toMatchObject({ pid: process.pid })
  })

  it.each<readonly [string, object]>([
    ['fail', { name: 'RangeError', message: 'too far', permanent: false, stack: expect.stringContaining('suspect.mjs') }],
    ['failForGood', { name: 'Error', message: 'never', permanent: true }],
  ])('whose handler throws fails as it would in a thread: %s', async (deed, error) => {
    expect(await setup().run({ do: deed }).end).toMatchObject({ ok: false, error })
  })

  it('whose handler is missing fails for good', async () => {
    const { run } = setup({ handler: '/nowhere/handler.mjs' })
    expect(await run({}).end).toMatchObject({
      ok: false,
      error: { permanent: true, message: expect.stringContaining('nowhere') },
    })
  })

  it('shows on the board as alone, with its step while it is in it', async () => {
    const { run, board, logged } = setup()
    const { task } = run({ do: 'step' })
    expect(board.readJobs()).toMatchObject([{ id: 'j1', thread: -2, step: undefined }])
    expect(await logged()).toMatchObject({ level: 'info', message: 'in the step', queue: 'mail', jobId: 'j1', attempt: 2 })
    expect(board.readJobs()).toMatchObject([{ id: 'j1', step: 'clone', stepMs: expect.any(Number) }])
    board.abortJob(task, 'cancelled')
    expect(await logged(({ level }) => level === 'warn')).toMatchObject({ message: 'out of the step' })
    expect(board.readJobs()).toMatchObject([{ id: 'j1', step: undefined }])
  })

  it('hears that it is to stop, and shows life on the board with its heartbeat', async () => {
    const { run, board, time, logged } = setup()
    const { task, end } = run({ do: 'beatWhenStopped' })
    await logged()
    time.freeze(5000)
    expect(board.readJobs()).toMatchObject([{ silentMs: 5000 }])
    board.abortJob(task, 'the supervisor is shutting down')
    await logged(({ message }) => message === 'beaten')
    expect(board.readJobs()).toMatchObject([{ silentMs: 0 }])
    expect(resultOf(await end)).toBe('job j1 is to stop: the supervisor is shutting down')
  })

  it('hears at once that it is to stop when it was so before its process had started', async () => {
    const { run, board } = setup()
    const { task, end } = run({ do: 'wait' })
    board.abortJob(task, 'cancelled')
    expect(await end).toMatchObject({ ok: true })
  })

  it('does not outlive its reply, whatever it left running', async () => {
    const pid = resultOf(await setup().run({ do: 'leaveWorkBehind' }).end)
    expect(lives(Number(pid))).toBe(false)
  })

  it('whose reply is given is done, even if its process would not end', async () => {
    const pid = resultOf(await setup().run({ do: 'hangAtExit' }).end)
    expect(pid).toEqual(expect.any(Number))
    expect(lives(Number(pid))).toBe(false)
  })

  it('may use the channel for itself without harm', async () => {
    expect(resultOf(await setup().run({ do: 'talkForItself' }).end)).toBe('said')
  })
})

describe('a suspect that ends its process', () => {
  it.each<readonly [string, object, string]>([
    ['by an exit', { do: 'exit', code: 7 }, 'exit code 7 (process.exit in the handler?)'],
    ['by an exit that says that all is well', { do: 'exit', code: 0 }, 'exit code 0 (process.exit in the handler?)'],
    ['by a signal', { do: 'killItself', signal: 'SIGKILL' }, 'signal SIGKILL'],
    ['by an abort, as V8 does without memory', { do: 'abort' }, 'signal SIGABRT (out of memory?)'],
    ['by an error that nobody catches', { do: 'throwOutside' }, 'exit code 1: nobody caught me'],
  ])('%s is the reason for its loss', async (_, data, how) => {
    expect(await setup().run(data).end).toEqual({
      ok: 'lost',
      loss: { kind: 'alone', message: `the process of its own that ran this job alone ended with ${how}` },
    })
  })

  it('takes no other with it', async () => {
    const { run, executor, logged } = setup()
    const other = run({ do: 'beatWhenStopped' }, 'other')
    await logged()
    expect(await run({ do: 'killItself', signal: 'SIGKILL' }, 'culprit').end).toMatchObject({ ok: 'lost' })
    expect(executor.runs(other.task)).toBe(true)
    executor.kill(other.task, 'the test is over')
    await other.end
  })

  it('before any code of the job ran is a start that failed, which may work next time', async () => {
    const { run } = setup({ soloModule: new URL('../fixtures/no-such-module.mjs', import.meta.url) })
    expect(await run({ do: 'reply' }).end).toMatchObject({
      ok: false,
      error: { permanent: false, message: expect.stringMatching(/alone could not be started: it ended with exit code 1$/) },
    })
  })
})

describe('an order to end a suspect', () => {
  it('ends its process even in an endless loop, and is no proof against the job', async () => {
    const { run, board, executor, logged } = setup()
    const { task, end } = run({ do: 'block' })
    const { message: pid } = await logged()
    // Said right before the loop, and heard all the same.
    expect(board.readJobs()).toMatchObject([{ step: 'busy' }])
    executor.kill(task, 'job_silent for 9 s')
    expect(await end).toEqual({
      ok: 'lost',
      loss: { kind: 'lost', message: 'process terminated: job_silent for 9 s', ordered: true },
    })
    expect(lives(Number(pid))).toBe(false)
    expect(executor.runs(task)).toBe(false)
  })

  it('means one claim: on a cell that was given on, the older run is not meant', async () => {
    const { run, board, executor, logged, taskOf } = setup()
    const older = run({ do: 'wait' })
    await logged()
    board.freeJob(older.task)
    const newer = taskOf({ do: 'wait' })
    expect(newer.cell).toBe(older.task.cell)
    expect(executor.runs(newer)).toBe(false)
    executor.kill(newer, 'job_silent for 9 s')
    // The older one hears that its claim is gone, and ends by itself.
    expect(await older.end).toMatchObject({ ok: true })
  })

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)(
    'does not come as a %s, which goes to all processes of a group',
    async (signal) => {
      const { run, board, logged } = setup()
      const { task, end } = run({ do: 'wait' })
      process.kill(Number((await logged()).message), signal)
      board.abortJob(task, 'the supervisor is shutting down')
      expect(await end).toMatchObject({ ok: true })
    },
  )

  it('comes to all of them at a stop, and none is started after it', async () => {
    const { run, executor, logged } = setup()
    const first = run({ do: 'block' }, 'a')
    const second = run({ do: 'wait' }, 'b')
    const pids = [await logged(({ jobId }) => jobId === 'a'), await logged(({ jobId }) => jobId === 'b')].map(({ message }) =>
      Number(message),
    )
    await executor.stop()
    expect(pids.map(lives)).toEqual([false, false])
    const loss = { kind: 'lost', message: 'process terminated: the supervisor is shutting down', ordered: true }
    expect(await Promise.all([first.end, second.end, run({ do: 'reply' }, 'c').end])).toEqual([
      { ok: 'lost', loss },
      { ok: 'lost', loss },
      { ok: 'lost', loss },
    ])
    await executor.stop()
  })
})

describe('a suspect whose supervisor is gone', () => {
  it.each(['wait', 'block'])('ends by itself, whatever it does: %s', async (deed) => {
    const parent = spawn(process.execPath, [PARENT, deed], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exit = new Promise((resolve) => parent.once('exit', resolve))
    const pid = await new Promise<number>((resolve) => {
      createInterface({ input: parent.stdout }).once('line', (line) => resolve(Number(line)))
    })
    expect(lives(pid)).toBe(true)
    parent.kill('SIGKILL')
    await exit
    await until(
      async () => lives(pid),
      (alive) => !alive,
      5000,
    )
  })
})
