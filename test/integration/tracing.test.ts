/** Tracing: one trace from the enqueue through each attempt to the session, and not a span where it is off. */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import {
  BasicTracerProvider,
  InMemorySpanExporter,
  type ReadableSpan,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-base'
import { Queue } from 'bullmq'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { QueueWorker } from '../../src/dispatch/bullmq-worker.js'
import type { Executor } from '../../src/dispatch/run-attempt.js'
import { SessionExecutor } from '../../src/dispatch/session-executor.js'
import type { ThreadReply, ThreadTask } from '../../src/dispatch/thread-protocol.js'
import { Dispatcher } from '../../src/dispatcher.js'
import { BeatBoard } from '../../src/heartbeat/beat-board.js'
import { parseConfig } from '../../src/platform/config-parse.js'
import { openTracing } from '../../src/platform/otel-tracer.js'
import { queueKeys } from '../../src/platform/redis-keys.js'
import { systemClock } from '../../src/platform/system-clock.js'
import { deferred } from '../support/deferred.js'
import { recordOf } from '../support/fake-sessions.js'
import { scene, unstuck, until } from '../support/processes.js'
import { startTestRedis } from '../support/redis.js'
import { sessionRunSetup } from '../support/session-runs.js'
import { agentScene } from '../support/sessions.js'

const SDK = resolve(import.meta.dirname, '../../examples/tracing/otel.mjs')
const NOT_INSTALLED = resolve(import.meta.dirname, '../fixtures/tracing/not-installed.mjs')
const QUEUE = 'mail'
const OWNER = 'alpha#0123456789ab'

const exporter = new InMemorySpanExporter()

beforeAll(() => {
  trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }))
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
})
beforeEach(() => exporter.reset())
afterAll(() => {
  for (const api of [trace, context, propagation]) api.disable()
})

const named = (name: string): ReadableSpan[] => exporter.getFinishedSpans().filter((span) => span.name === name)
const idOf = (span: ReadableSpan | undefined) => span?.spanContext().spanId
const parentOf = (span: ReadableSpan | undefined) => span?.parentSpanContext?.spanId
const traces = () => new Set(exporter.getFinishedSpans().map((span) => span.spanContext().traceId))

/** A dispatcher and a worker of one queue, in this process. @param run what becomes of a job */
async function setup(run: (task: ThreadTask) => ThreadReply | Promise<ThreadReply>) {
  const server = await startTestRedis()
  const redis = new Redis(server.url)
  const queueSettings = { handler: 'none.mjs', threads: 1, lockDurationMs: 4000, attempts: { backoffMs: [50], jitter: 0 } }
  const config = parseConfig(
    {
      redis: { url: server.url },
      queues: { [QUEUE]: queueSettings },
      loops: { pollIntervalMs: 1000 },
      telemetry: { tracing: true },
    },
    { baseDir: '/', handlersMustExist: false },
  )
  const queue = config.queues[QUEUE]
  if (!queue) throw new Error('no queue')
  const board = BeatBoard.create(
    { queues: [{ name: QUEUE, threads: 1, slots: 1 }], loops: [{ loop: 'fetch', queue: QUEUE }] },
    systemClock.monotonicMs,
  )
  const executor: Executor = { run: async (task) => run(task), kill: () => undefined }
  const quiet = () => undefined
  const worker = new QueueWorker({
    queue: QUEUE,
    queueIndex: 0,
    config: queue,
    owner: OWNER,
    settings: 'f00d',
    bullPrefix: 'bull',
    redisUrl: server.url,
    pollIntervalMs: 1000,
    heartbeatTimeoutMs: 5000,
    board,
    loop: board.loopWriter(0),
    executor,
    clock: systemClock,
    tracing: await openTracing(config.telemetry),
    events: {
      attemptEnded: quiet,
      firstStart: quiet,
      error: quiet,
      ledger: () => ({ exhausted: quiet, breakerOpened: quiet, breakerClosed: quiet, poison: quiet, reset: quiet }),
    },
  })
  const dispatcher = new Dispatcher(config)
  onTestFinished(async () => {
    await worker.stop()
    await dispatcher.close()
    redis.disconnect()
    await server.stop()
  })
  await worker.start()
  return {
    server,
    redis,
    dispatcher,
    spans: (name: string, count: number) =>
      until(
        async () => named(name),
        ({ length }) => length === count,
      ),
  }
}

const FAILED: ThreadReply = {
  ok: false,
  error: { name: 'Error', message: 'the mail server is away', stack: '', permanent: false },
}

describe('a traced job', () => {
  it('is one trace from the enqueue on, with a span for each attempt', async () => {
    const { dispatcher, spans } = await setup(({ attempt }) => (attempt === 1 ? FAILED : { ok: true, json: '1' }))
    const id = await dispatcher.add(QUEUE, {})
    await spans(`complete ${QUEUE}`, 1)
    const [[first, second], processed, [added]] = [
      await spans('unstuck.attempt', 2),
      await spans(`process ${QUEUE}`, 2),
      await spans(`addBulk ${QUEUE}`, 1),
    ]
    expect(traces().size).toBe(1)
    expect(added?.kind).toBe(SpanKind.PRODUCER)
    expect(parentOf(processed[0])).toBe(idOf(added))
    expect([first, second].map(parentOf)).toEqual(processed.map(idOf))
    const whose = { 'unstuck.queue': QUEUE, 'unstuck.job.id': id }
    expect(first?.attributes).toEqual({ ...whose, 'unstuck.attempt': 1, 'unstuck.fence': 1, 'unstuck.outcome': 'transient' })
    expect(first?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'the mail server is away' })
    expect(second?.attributes).toEqual({ ...whose, 'unstuck.attempt': 2, 'unstuck.fence': 2, 'unstuck.outcome': 'success' })
    expect(second?.status.code).toBe(SpanStatusCode.UNSET)
  })

  it('belongs to the trace of whoever adds it', async () => {
    const { dispatcher, spans } = await setup(() => ({ ok: true, json: '1' }))
    const request = trace.getTracer('app').startSpan('a request')
    await context.with(trace.setSpan(context.active(), request), () => dispatcher.add(QUEUE, {}))
    request.end()
    const [attempt] = await spans('unstuck.attempt', 1)
    expect(attempt?.spanContext().traceId).toBe(request.spanContext().traceId)
  })

  it('that somebody added without a trace begins one with its first attempt', async () => {
    const { server, spans } = await setup(() => ({ ok: true, json: '1' }))
    const queue = new Queue(QUEUE, { connection: { url: server.url } })
    onTestFinished(() => queue.close())
    await queue.add('m', {})
    const [attempt] = await spans('unstuck.attempt', 1)
    const [processed] = await spans(`process ${QUEUE}`, 1)
    expect(parentOf(attempt)).toBe(idOf(processed))
    expect(parentOf(processed)).toBeUndefined()
  })

  it('whose trace cannot be read runs all the same', async () => {
    const { server, spans } = await setup(() => ({ ok: true, json: '1' }))
    const queue = new Queue(QUEUE, { connection: { url: server.url } })
    onTestFinished(() => queue.close())
    await queue.add('m', {}, { telemetry: { metadata: 'of another vendor' } })
    const [attempt] = await spans('unstuck.attempt', 1)
    expect(attempt?.attributes['unstuck.outcome']).toBe('success')
  })

  it('that goes back uncharged says why', async () => {
    let runs = 0
    const { dispatcher, spans } = await setup(() => {
      runs += 1
      const limited = { name: 'RateLimitedError', message: 'later', stack: '', permanent: false, retryAfterMs: 50 }
      return runs === 1 ? { ok: false, error: limited } : { ok: true, json: '1' }
    })
    await dispatcher.add(QUEUE, {})
    const [first] = await spans('unstuck.attempt', 2)
    expect(first?.attributes).toMatchObject({ 'unstuck.outcome': 'handed_back', 'unstuck.reason': 'rate_limited' })
    expect(first?.status.code).toBe(SpanStatusCode.UNSET)
    expect(traces().size).toBe(1)
  })

  it('shows neither its data nor its result', async () => {
    const { dispatcher, spans } = await setup(() => ({ ok: true, json: '{"answer":"what-came-of-it"}' }))
    await dispatcher.add(QUEUE, { question: 'what-it-is-about' })
    await spans(`process ${QUEUE}`, 1)
    const shown = exporter
      .getFinishedSpans()
      .map(({ name, attributes, events, status }) => ({ name, attributes, events, status }))
    expect(JSON.stringify(shown)).toContain('job completed')
    expect(JSON.stringify(shown)).not.toMatch(/what-it-is-about|what-came-of-it/)
  })
})

describe('a traced worker', () => {
  it('makes no spans of its own upkeep', async () => {
    const end = deferred<ThreadReply>()
    const { dispatcher, redis, spans } = await setup(() => end.promise)
    const id = await dispatcher.add(QUEUE, {})
    let before = 0
    let renewals = 0
    await until(
      async () => {
        const leftMs = await redis.pttl(queueKeys('bull', QUEUE).lock(id))
        if (before > 0 && leftMs > before) renewals += 1
        before = leftMs
        return renewals
      },
      (count) => count === 2,
    )
    end.resolve({ ok: true, json: '1' })
    await spans(`process ${QUEUE}`, 1)
    const names = exporter.getFinishedSpans().map(({ name }) => name)
    expect(names).toEqual([`addBulk ${QUEUE}`, 'unstuck.attempt', `complete ${QUEUE}`, `process ${QUEUE}`])
  })
})

describe('a traced session', () => {
  async function sessionSetup() {
    const { tracer } = await openTracing({ tracing: true })
    const stage = sessionRunSetup({}, { tracer })
    const executor = new SessionExecutor({ ...stage.options, concurrency: 1, tickMs: 25 })
    return { ...stage, executor }
  }

  it('is a span that the program can go on from, with one event for each step of its launch', async () => {
    const { executor, taskOf, sessions, calls } = await sessionSetup()
    const ended = executor.run(taskOf(), 't')
    await calls.made('release')
    sessions.process.exit(0)
    await ended
    const [[session], [launch]] = [named('unstuck.session'), named('unstuck.launch')]
    expect(launch?.events.map(({ name }) => name)).toEqual(['plan', 'fence', 'workspace', 'spawn', 'record', 'sign_of_life'])
    expect(parentOf(launch)).toBe(idOf(session))
    const { traceId = '', spanId = '' } = session?.spanContext() ?? {}
    expect(sessions.specs[0]?.env).toEqual({
      A: '1',
      TRACEPARENT: `00-${traceId}-${spanId}-01`,
      UNSTUCK_SOCKET: '/sock/run/j1-1',
    })
    expect(session?.status.code).toBe(SpanStatusCode.UNSET)
  })

  it('that was adopted says so, and has no launch', async () => {
    const { executor, taskOf, sessions, calls } = await sessionSetup()
    executor.expect(recordOf({ process: { pid: 99, startedAt: 'then' } }))
    const ended = executor.run(taskOf(), 't')
    await calls.made('attach')
    sessions.process.exit(0)
    await ended
    expect(named('unstuck.session')[0]?.attributes).toMatchObject({ 'unstuck.job.id': 'j1', 'unstuck.session.adopted': true })
    expect(named('unstuck.launch')).toEqual([])
  })

  it('that cannot be launched shows at which step, and why', async () => {
    const { executor, taskOf, calls } = await sessionSetup()
    calls.fail('make', new Error('no space left'))
    await executor.run(taskOf(), 't')
    const [[session], [launch]] = [named('unstuck.session'), named('unstuck.launch')]
    expect(launch?.status).toEqual({ code: SpanStatusCode.ERROR, message: 'workspace: no space left' })
    expect(launch?.events.map(({ name }) => name)).toEqual(['plan', 'fence', 'workspace'])
    expect(session?.status.code).toBe(SpanStatusCode.ERROR)
  })
})

interface SpanLine {
  readonly traceId: string
  readonly spanId: string
  readonly parentId?: string
  readonly name: string
}

const completed = (stage: { readonly client: Redis }, queue: string) =>
  until(
    () => stage.client.zcard(`bull:${queue}:completed`),
    (count) => count === 1,
  )

describe('the processes with the SDK of the example', () => {
  it('give one trace from `unstuck enqueue` to the session, whose program finds its parent in TRACEPARENT', async () => {
    const stage = await scene()
    const seen = join(stage.dir, 'seen')
    const spansFile = join(stage.dir, 'spans.ndjson')
    const session = agentScene(stage).session(`echo "$TRACEPARENT" > '${seen}'`)
    const config = stage.config('unstuck', { queues: { agents: { session } }, supervisor: { drainMs: 5000 } })
    const options = { cwd: stage.dir, preload: SDK, env: { UNSTUCK_TRACING: '1', SPANS_FILE: spansFile } }
    const supervisor = await stage.supervisor(config, [], options)
    const enqueue = unstuck(['enqueue', 'agents', '--config', config, '--job-id', 'task'], options)
    expect(await enqueue.exited, enqueue.output()).toBe(0)
    await completed(stage, 'agents')
    supervisor.kill('SIGTERM')
    expect(await supervisor.exited, supervisor.output()).toBe(0)

    const spans = readFileSync(spansFile, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as SpanLine)
    const byId = new Map(spans.map((span) => [span.spanId, span]))
    const way = (span: SpanLine | undefined): string[] =>
      span ? [span.name, ...way(span.parentId === undefined ? undefined : byId.get(span.parentId))] : []
    const [, traceId, spanId = ''] = readFileSync(seen, 'utf8').trim().split('-')
    expect(way(byId.get(spanId))).toEqual(['unstuck.session', 'unstuck.attempt', 'process agents', 'addBulk agents'])
    expect(new Set(spans.map((span) => span.traceId))).toEqual(new Set([traceId]))
  })

  it('tell a handler its parent', async () => {
    const stage = await scene()
    const handler = stage.handler('echo', 'export default (job, ctx) => ctx.traceparent')
    const config = stage.config('unstuck', { queues: { echo: { handler, threads: 1 } }, telemetry: { tracing: true } })
    await stage.supervisor(config, [], { preload: SDK })
    const dispatcher = await Dispatcher.connect({ redis: { url: stage.redis.url }, telemetry: { tracing: true } })
    onTestFinished(() => dispatcher.close())
    await dispatcher.add('echo', {}, { jobId: 'task' })
    await completed(stage, 'echo')
    const [added] = named('addBulk echo')
    const told = JSON.parse((await stage.client.hget('bull:echo:task', 'returnvalue')) ?? '""') as string
    expect(told.split('-')[1]).toBe(added?.spanContext().traceId)
  })
})

describe('where its packages are not installed', () => {
  async function bareSetup(tracing: boolean) {
    const stage = await scene()
    const asked = join(stage.dir, 'asked')
    const handler = stage.handler('echo', 'export default (job, ctx) => String(ctx.traceparent)')
    const config = stage.config('unstuck', { queues: { echo: { handler, threads: 1 } }, telemetry: { tracing } })
    return { ...stage, asked, config, options: { cwd: stage.dir, preload: NOT_INSTALLED, env: { ASKED_FILE: asked } } }
  }

  it('everything works as long as tracing is off, which is the default, and nobody looks for them', async () => {
    const { config, options, asked, ...stage } = await bareSetup(false)
    await stage.supervisor(config, [], options)
    const enqueue = unstuck(['enqueue', 'echo', '--config', config, '--job-id', 'task'], options)
    expect(await enqueue.exited, enqueue.output()).toBe(0)
    await completed(stage, 'echo')
    expect(await stage.client.hget('bull:echo:task', 'returnvalue')).toBe('"undefined"')
    expect(existsSync(asked)).toBe(false)
    expect(parseConfig({}, { baseDir: '/' }).telemetry).toEqual({ tracing: false })
  })

  it.each(['supervisor', 'watchdog', 'enqueue'])('`%s` refuses to trace, in one line with the fix', async (command) => {
    const { config, options } = await bareSetup(true)
    const args = command === 'enqueue' ? ['enqueue', 'echo'] : [command, '--port', '0']
    const refused = unstuck([...args, '--config', config], options)
    expect(await refused.exited).toBe(2)
    expect(refused.output()).toBe(
      'unstuck: telemetry.tracing: is on, and what it needs is not installed; run `npm install bullmq-otel @opentelemetry/api`\n',
    )
  })
})
