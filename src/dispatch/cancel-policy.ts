/** Cancelling a job: what is asked, what comes of it, and how it is written down. Pure; `bullmq-cancel.ts` does it. */
export interface CancelOrder {
  readonly id: string
  readonly actor: string
  readonly reason?: string
  /** Says what would happen and changes nothing. */
  readonly dryRun?: boolean
}

export type CancelAnswer =
  | { readonly outcome: 'cancelled' }
  /** Marked; its owner, `supervisor#incarnation`, must be told. The fence is that of the claim that runs now. */
  | { readonly outcome: 'running'; readonly owner: string; readonly fence: number }
  | { readonly outcome: 'unknown' }
  | CancelRefusal

export type CancelRefusal =
  /** It runs in a worker that is not ours. */
  | { readonly outcome: 'foreign'; readonly owner: string }
  /** It is what its scheduler will run next: without it the schedule would end. */
  | { readonly outcome: 'scheduled'; readonly scheduler: string }
  | { readonly outcome: 'completed' | 'failed' | 'cancelled_before' | 'waiting_for_children' }

/** Why a job ended, as it is stored with it. */
export function cancelMark({ actor, reason }: Pick<CancelOrder, 'actor' | 'reason'>): string {
  return reason === undefined ? `cancelled by ${actor}` : `cancelled by ${actor}: ${reason}`
}
