import { type Kind, kinds } from './kinds.js'

enum Colour {
  Red = 'red',
}
export default async (job: { data: { n: number } }): Promise<[Kind, Colour, number]> => [kinds[0], Colour.Red, job.data.n]
