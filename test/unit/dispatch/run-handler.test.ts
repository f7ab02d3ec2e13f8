import { describe, expect, it } from 'vitest'
import { runHandler } from '../../../src/dispatch/run-handler.js'
import { ThreadContext } from '../../../src/dispatch/thread-context.js'
import type { ThreadReply, ThreadTask } from '../../../src/dispatch/thread-protocol.js'
import { PermanentError } from '../../../src/kernel/errors.js'
import type { Handler } from '../../../src/kernel/job.js'
import { QUEUE, testBoard } from '../../support/boards.js'

function setup() {
  const { board } = testBoard()
  const ref = board.claimJob(QUEUE, 'j1', 2, 3)
  if (!ref) throw new Error('no cell')
  const task: ThreadTask = {
    ...ref,
    id: 'j1',
    name: 'send',
    queue: 'mail',
    data: { to: 'x' },
    group: 'site-a',
    attempt: 2,
    fence: 3,
  }
  const context = new ThreadContext(board, task, () => undefined)
  const run = (handler: Handler): Promise<ThreadReply> => runHandler(async () => handler, task, context)
  return { board, task, context, run }
}

function errorOf(reply: ThreadReply): object | undefined {
  return reply.ok ? undefined : reply.error
}

const circular: { self?: unknown } = {}
circular.self = circular

describe('a handler', () => {
  it('gets the view of its job and nothing of the cell that it has, and its result travels as JSON', async () => {
    const { run } = setup()
    const reply = await run((job, ctx) => ({ job, fence: ctx.fence }))
    expect(reply).toEqual({
      ok: true,
      json: '{"job":{"id":"j1","name":"send","queue":"mail","data":{"to":"x"},"group":"site-a","attempt":2},"fence":3}',
    })
  })

  it('may have no result', async () => {
    expect(await setup().run(() => undefined)).toEqual({ ok: true, json: undefined })
  })

  it.each<readonly [string, () => unknown, object]>([
    [
      'an Error with a class of its own',
      () => Promise.reject(new RangeError('far')),
      { name: 'RangeError', message: 'far', permanent: false },
    ],
    [
      'a PermanentError',
      () => Promise.reject(new PermanentError('never')),
      { name: 'PermanentError', message: 'never', permanent: true },
    ],
    [
      "BullMQ's UnrecoverableError",
      () => Promise.reject(Object.assign(new Error('no'), { name: 'UnrecoverableError' })),
      { message: 'no', permanent: true },
    ],
    ['a text', () => Promise.reject('plain'), { name: 'Error', message: 'the handler threw plain', permanent: false }],
    ['nothing', () => Promise.reject(undefined), { name: 'Error', message: 'the handler threw undefined', permanent: false }],
    [
      'what cannot be made a text',
      () => Promise.reject(Object.create(null)),
      { name: 'Error', message: 'the handler threw [object Object]', permanent: false },
    ],
  ])('fails with %s', async (_, handler, error) => {
    expect(errorOf(await setup().run(handler))).toMatchObject(error)
  })

  it.each<readonly [string, unknown]>([
    ['a circle', circular],
    ['a function', () => undefined],
    ['a bigint', 1n],
  ])('whose result cannot be stored fails for good: %s', async (_, result) => {
    expect(errorOf(await setup().run(() => result))).toMatchObject({
      permanent: true,
      message: expect.stringMatching(/^the handler's result cannot be stored as JSON: /),
    })
  })

  it('that cannot be loaded is the failure of its job', async () => {
    const { task, context } = setup()
    const reply = await runHandler(() => Promise.reject(new PermanentError('handler x does not exist')), task, context)
    expect(errorOf(reply)).toMatchObject({ message: 'handler x does not exist', permanent: true })
  })

  it('leaves the thread with a stack of bounded size', async () => {
    const reply = await setup().run(() => Promise.reject(Object.assign(new Error('deep'), { stack: 'x'.repeat(100_000) })))
    expect(errorOf(reply)).toMatchObject({ stack: 'x'.repeat(4000) })
  })

  it('shows its steps on the board, the outer one again when the inner one is left, with the age it had', async () => {
    const { run, board } = setup()
    const seen: (string | undefined)[] = []
    const look = () => seen.push(board.readJobs()[0]?.step)
    await run((_, ctx) =>
      ctx.step('outer', async () => {
        look()
        await ctx.step('inner', look)
        look()
      }),
    )
    look()
    expect(seen).toEqual(['outer', 'inner', 'outer', undefined])
  })

  it('hears through its signal that it is to stop, even one that it asks for late', async () => {
    const { task, context, board } = setup()
    board.abortJob(task, 'cancelled')
    const reply = await runHandler(async () => (_, ctx) => Promise.reject(ctx.signal.reason), task, context)
    expect(errorOf(reply)).toMatchObject({ message: 'job j1 is to stop: cancelled' })
  })
})
