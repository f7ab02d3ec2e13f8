import { messageOf } from './errors.js'

/** @throws Error that says what it is instead; what it holds, which may be a secret, is not repeated */
export function parseJsonObject(text: string): Partial<Record<string, unknown>> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new Error('it is no JSON', { cause: messageOf(error) })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('it is no object')
  return { ...value }
}

/** @returns undefined when it is none */
export function jsonObjectIn(text: string): Partial<Record<string, unknown>> | undefined {
  try {
    return parseJsonObject(text)
  } catch {
    return undefined
  }
}
