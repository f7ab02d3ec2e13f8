/**
 * An OpenTelemetry SDK for `unstuck`, to be preloaded into each process that adds or runs jobs:
 *
 *   npm install bullmq-otel @opentelemetry/api @opentelemetry/core @opentelemetry/sdk-trace-base @opentelemetry/context-async-hooks
 *   NODE_OPTIONS="--import $PWD/otel.mjs" UNSTUCK_TRACING=1 unstuck supervisor
 *
 * Each span becomes a line of a file, `spans.ndjson` or what SPANS_FILE names. To send them to a collector put
 * `new OTLPTraceExporter()` of @opentelemetry/exporter-trace-otlp-http in the place of `intoFile`.
 */
import { appendFileSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { context, propagation, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { W3CTraceContextPropagator } from '@opentelemetry/core'
import { BasicTracerProvider, BatchSpanProcessor } from '@opentelemetry/sdk-trace-base'

const file = process.env.SPANS_FILE ?? 'spans.ndjson'

const intoFile = {
  export(spans, done) {
    const lines = spans.map((span) => {
      const { traceId, spanId } = span.spanContext()
      const { name, kind, attributes, status, duration } = span
      const events = span.events.map((event) => event.name)
      const parentId = span.parentSpanContext?.spanId
      return `${JSON.stringify({ traceId, spanId, parentId, name, kind, attributes, events, status, duration })}\n`
    })
    appendFileSync(file, lines.join(''))
    done({ code: 0 })
  },
  shutdown: async () => undefined,
}

// The threads of a supervisor preload it too. Only handlers that make spans themselves want it there.
if (isMainThread) {
  const provider = new BasicTracerProvider({ spanProcessors: [new BatchSpanProcessor(intoFile)] })
  trace.setGlobalTracerProvider(provider)
  // Without these two no span knows its parent: the one carries it through a process, the other from process to process.
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  propagation.setGlobalPropagator(new W3CTraceContextPropagator())
  process.once('beforeExit', () => provider.shutdown())
}
