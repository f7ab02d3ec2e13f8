/** Exit codes: all is fine, a problem was found, or it could not be done (usage, config, unreachable). */
export const EXIT = { fine: 0, problem: 1, unable: 2 } as const
