/** What one check of `unstuck doctor` found. */
export interface Finding {
  readonly check: 'redis' | 'version' | 'eviction' | 'persistence' | 'clock' | 'bullmq' | 'thresholds' | 'programs' | 'keys'
  /** `advice` and `unknown` do not change the exit code. */
  readonly status: 'ok' | 'advice' | 'problem' | 'unknown'
  readonly found: string
  /** There when something is to be done. */
  readonly fix?: string
}
