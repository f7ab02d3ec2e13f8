/** A store that is away is asked again after so long, milliseconds. */
const ASK_AGAIN_MS = 250

export interface Insistence {
  /** Whether to ask no more after this error. */
  readonly over: (error: unknown) => boolean
  /** Told of each error after which it is asked again. */
  readonly onError: (error: unknown) => void
}

/**
 * Waits for a store that is away, for as long as somebody wants its answer. The call may be made more than once.
 * @throws the error after which it was over
 */
export async function insist<T>(call: () => Promise<T>, { over, onError }: Insistence): Promise<T> {
  for (;;) {
    try {
      return await call()
    } catch (error) {
      if (over(error)) throw error
      onError(error)
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS))
    }
  }
}
