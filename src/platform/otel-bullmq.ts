/**
 * BullMQ's spans: bullmq-otel's, with three differences.
 *
 * They are made with the copy of the API that this process has. bullmq-otel asks for a range of its own, and npm may give
 * it a newer copy, which does not see the SDK: its spans would be lost without a word (1.10.0 beside an SDK for 1.9).
 * They are about jobs: of every renewal of locks, and of every pause and close, it would make a trace.
 * And they hold no job data: it would write the result of each job into its span.
 */
import type { Context } from '@opentelemetry/api'
import { type Span, SpanKind, type Telemetry, TelemetryAttributes } from 'bullmq'
import type { BullMQOTelSpan } from 'bullmq-otel'

type Api = typeof import('@opentelemetry/api')

const SILENT: Span<Context> = {
  setSpanOnContext: (context) => context,
  setAttribute: () => undefined,
  setAttributes: () => undefined,
  addEvent: () => undefined,
  recordException: () => undefined,
  end: () => undefined,
}

export function bullmqTelemetry(api: Api, SpanOf: typeof BullMQOTelSpan): Telemetry<Context> {
  const { context, propagation, trace } = api
  const tracer = trace.getTracer('bullmq')
  return {
    contextManager: {
      with: (within, run) => context.with(within, run),
      active: () => context.active(),
      root: () => api.ROOT_CONTEXT,
      getMetadata: (of) => {
        const carrier = {}
        propagation.inject(of, carrier)
        return JSON.stringify(carrier)
      },
      fromMetadata: (active, metadata) => propagation.extract(active, carrierIn(metadata)),
    },
    tracer: {
      startSpan: (name, options, parent) => {
        const belongs = trace.getSpan(parent ?? context.active()) !== undefined
        // Internal to BullMQ, and part of nothing that somebody asked for.
        if (!belongs && options?.kind === SpanKind.INTERNAL) return SILENT
        return withoutResult(new SpanOf(tracer.startSpan(name, options, parent)))
      },
    },
  }
}

/** Whoever adds a job writes it: what cannot be read must not keep the job from running. */
function carrierIn(metadata: string): object {
  try {
    return Object(JSON.parse(metadata)) as object
  } catch {
    return {}
  }
}

/** A result is job data: it may be a secret, and megabytes. */
function withoutResult(span: Span<Context>): Span<Context> {
  const addEvent = span.addEvent.bind(span)
  span.addEvent = (name, attributes = {}) => {
    const { [TelemetryAttributes.JobResult]: _result, ...rest } = attributes
    addEvent(name, rest)
  }
  return span
}
