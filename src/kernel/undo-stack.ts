/**
 * What a work of several steps must take back when it cannot be finished. Each step pushes its undo when it has done
 * something; a failure unwinds them, the last first. An undo that fails is told, and the others are done all the same.
 */
export class UndoStack {
  readonly #undos: { readonly step: string; readonly undo: () => Promise<void> | void }[] = []

  push(step: string, undo: () => Promise<void> | void): void {
    this.#undos.push({ step, undo })
  }

  /** @returns the steps whose undo failed; what they left is for whoever cleans up after a crash */
  async unwind(onFailure: (step: string, error: unknown) => void): Promise<string[]> {
    const failed: string[] = []
    for (let next = this.#undos.pop(); next; next = this.#undos.pop()) {
      try {
        await next.undo()
      } catch (error) {
        failed.push(next.step)
        onFailure(next.step, error)
      }
    }
    return failed
  }
}
