/**
 * Traces through OpenTelemetry, when `telemetry.tracing` is on. The packages are loaded then and not before; where the
 * spans go is the business of the SDK that the user has registered in this process. Without one they go nowhere.
 */
import type { Context, Span as OtelSpan, Tracer as OtelTracerOf } from '@opentelemetry/api'
import type { Telemetry } from 'bullmq'
import { hasCode, messageOf, UserError } from '../kernel/errors.js'
import { NO_TRACER, type Span, type Tracer } from '../kernel/telemetry.js'
import type { TelemetryConfig } from './config.js'
import { bullmqTelemetry } from './otel-bullmq.js'
import { VERSION } from './version.js'

type Api = typeof import('@opentelemetry/api')

export interface Tracing {
  readonly tracer: Tracer
  /** What BullMQ's queues and workers are given, so that a job bears the trace of whoever added it. */
  readonly bullmq: Telemetry<Context> | undefined
}

export const NO_TRACING: Tracing = { tracer: NO_TRACER, bullmq: undefined }

/** How much of a reason a span repeats, characters. */
const SHOWN_REASON = 500

/** @throws UserError CONFIG_INVALID when tracing is on and what it needs is not installed */
export async function openTracing({ tracing }: TelemetryConfig): Promise<Tracing> {
  if (!tracing) return NO_TRACING
  const { api, BullMQOTelSpan } = await loadPackages()
  return { tracer: otelTracer(api, api.trace.getTracer('unstuck', VERSION)), bullmq: bullmqTelemetry(api, BullMQOTelSpan) }
}

async function loadPackages() {
  try {
    const [api, { BullMQOTelSpan }] = await Promise.all([import('@opentelemetry/api'), import('bullmq-otel')])
    return { api, BullMQOTelSpan }
  } catch (error) {
    if (!hasCode(error, 'ERR_MODULE_NOT_FOUND') && !hasCode(error, 'MODULE_NOT_FOUND')) throw error
    throw new UserError(
      'CONFIG_INVALID',
      'telemetry.tracing: is on, and what it needs is not installed; run `npm install bullmq-otel @opentelemetry/api`',
    )
  }
}

function otelTracer(api: Api, tracer: OtelTracerOf): Tracer {
  return {
    span: (name, attributes, run) =>
      tracer.startActiveSpan(name, { attributes }, async (span) => {
        try {
          return await run(spanOf(api, span))
        } catch (error) {
          failSpan(api, span, messageOf(error))
          throw error
        } finally {
          span.end()
        }
      }),
    apart: (run) => api.context.with(api.ROOT_CONTEXT, run),
  }
}

function spanOf(api: Api, span: OtelSpan): Span {
  return {
    traceparent: traceparentOf(api, span),
    set: (facts) => void span.setAttributes(facts),
    event: (name) => void span.addEvent(name),
    fail: (reason) => failSpan(api, span, reason),
  }
}

function failSpan(api: Api, span: OtelSpan, reason: string): void {
  span.setStatus({ code: api.SpanStatusCode.ERROR, message: reason.slice(0, SHOWN_REASON) })
}

/** As W3C Trace Context has it, whatever the SDK's own propagator speaks: what reads an environment reads this. */
function traceparentOf(api: Api, span: OtelSpan): string | undefined {
  const context = span.spanContext()
  if (!api.isSpanContextValid(context)) return undefined
  return `00-${context.traceId}-${context.spanId}-${context.traceFlags.toString(16).padStart(2, '0')}`
}
