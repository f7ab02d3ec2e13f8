/** How an order to a supervisor travels: as JSON, with the incarnation that it is meant for. Pure. */
import type { SupervisorOrder } from './sentinel-protocol.js'

export function writeOrder(order: SupervisorOrder, incarnation: string): string {
  return JSON.stringify({ ...order, incarnation })
}

/**
 * @param incarnation who reads it
 * @returns the order, or why it is dropped; never what it said, which anybody may have written
 */
export function readOrder(
  text: string,
  incarnation: string,
): { readonly order: SupervisorOrder } | { readonly refused: string } {
  const fields = fieldsOf(text)
  if (typeof fields?.['incarnation'] !== 'string') return { refused: 'an order that cannot be read was dropped' }
  if (fields['incarnation'] !== incarnation) return { refused: 'an order for another incarnation was dropped' }
  const order = orderOf(fields)
  return order ? { order } : { refused: 'an order of an unknown form was dropped' }
}

function fieldsOf(text: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? { ...value } : undefined
  } catch {
    return undefined
  }
}

function orderOf({ kind, queue, jobId, fence }: Readonly<Record<string, unknown>>): SupervisorOrder | undefined {
  if (kind === 'drain') return { kind }
  if (kind !== 'cancel' || typeof queue !== 'string' || typeof jobId !== 'string') return undefined
  return typeof fence === 'number' && Number.isSafeInteger(fence) ? { kind, queue, jobId, fence } : undefined
}
