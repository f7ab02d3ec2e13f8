/** What `within` resolves with when the limit came first. */
export const TIMED_OUT: unique symbol = Symbol('timed out')

/**
 * Waits for a promise, but no longer than the limit. It does not end what it waited for: whoever stops waiting leaves
 * that behind, and a later rejection of it is nobody's any more.
 * @param limitMs milliseconds
 * @returns what the promise gave, or TIMED_OUT
 * @throws what the promise rejects with in time
 */
export async function within<T>(promise: Promise<T>, limitMs: number): Promise<T | typeof TIMED_OUT> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<typeof TIMED_OUT>((resolve) => {
    timer = setTimeout(() => resolve(TIMED_OUT), limitMs)
  })
  try {
    return await Promise.race([promise, limit])
  } finally {
    clearTimeout(timer)
  }
}
