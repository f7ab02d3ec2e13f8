/** Options that are numbers. */
import { InvalidArgumentError } from 'commander'

/** A parser for an option that is a whole number. */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (!/^-?\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`)
    return value
  }
}

export const parsePort = wholeNumber(0, 65_535)
