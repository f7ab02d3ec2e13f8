/**
 * Traces of the work, for whoever collects them. A span says whose the work is, how long it took and how it ended; never
 * what it is about: no job data, no result, no environment. Where nobody collects, `NO_TRACER` runs the work and does
 * nothing else.
 */
export type SpanName = 'unstuck.attempt' | 'unstuck.session' | 'unstuck.launch'

export type SpanFacts = Readonly<Record<string, string | number | boolean>>

export interface Span {
  /** W3C Trace Context: what a child elsewhere needs to know of its parent. Undefined: nobody collects. */
  readonly traceparent: string | undefined
  set(facts: SpanFacts): void
  /** Something that happened now. */
  event(name: string): void
  fail(reason: string): void
}

export interface Tracer {
  /** Runs it in a span, which ends when it does; what is begun within is a child of it. */
  span<T>(name: SpanName, facts: SpanFacts, run: (span: Span) => Promise<T>): Promise<T>
  /** Runs it outside of any span: for what outlives the work that happens to begin it. */
  apart<T>(run: () => T): T
}

export const NO_SPAN: Span = {
  traceparent: undefined,
  set: () => undefined,
  event: () => undefined,
  fail: () => undefined,
}

export const NO_TRACER: Tracer = {
  span: (_name, _facts, run) => run(NO_SPAN),
  apart: (run) => run(),
}
