/**
 * Kubernetes manifests against the schemas of its API: values by the schema itself, which lets unknown fields pass as the API
 * does when asked nicely, and names of fields by the types that were made of it.
 */
import { PrometheusRule } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule'
import { ServiceMonitor } from '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor'
import { Deployment } from 'kubernetes-models/apps/v1/Deployment'
import { HorizontalPodAutoscaler } from 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1/PodDisruptionBudget'
import { ConfigMap } from 'kubernetes-models/v1/ConfigMap'
import { Service } from 'kubernetes-models/v1/Service'
import ts from 'typescript'

export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> }
  readonly [field: string]: unknown
}

type Model = new (data: never) => { validate(): void }

const OPERATOR = '@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1'
const kinds: Readonly<Record<string, { readonly Model: Model; readonly from: string }>> = {
  'v1 ConfigMap': { Model: ConfigMap, from: 'kubernetes-models/v1/ConfigMap' },
  'v1 Service': { Model: Service, from: 'kubernetes-models/v1/Service' },
  'apps/v1 Deployment': { Model: Deployment, from: 'kubernetes-models/apps/v1/Deployment' },
  'policy/v1 PodDisruptionBudget': { Model: PodDisruptionBudget, from: 'kubernetes-models/policy/v1/PodDisruptionBudget' },
  'autoscaling/v2 HorizontalPodAutoscaler': {
    Model: HorizontalPodAutoscaler,
    from: 'kubernetes-models/autoscaling/v2/HorizontalPodAutoscaler',
  },
  'monitoring.coreos.com/v1 ServiceMonitor': { Model: ServiceMonitor, from: `${OPERATOR}/ServiceMonitor` },
  'monitoring.coreos.com/v1 PrometheusRule': { Model: PrometheusRule, from: `${OPERATOR}/PrometheusRule` },
}

/** @returns one line for each thing that is wrong: an unknown kind, a wrong value, a field that does not exist */
export function problemsOf(manifests: readonly Manifest[]): string[] {
  const nameOf = ({ kind, metadata }: Manifest) => `${kind} ${metadata.name}`
  const known = manifests.filter(({ apiVersion, kind }) => kinds[`${apiVersion} ${kind}`])
  return [
    ...manifests.filter((manifest) => !known.includes(manifest)).map((manifest) => `${nameOf(manifest)}: unknown kind`),
    ...known.flatMap((manifest) => wrongValues(manifest).map((problem) => `${nameOf(manifest)}: ${problem}`)),
    ...wrongFields(known),
  ]
}

function wrongValues(manifest: Manifest): string[] {
  const { Model } = kinds[`${manifest.apiVersion} ${manifest.kind}`] ?? {}
  if (!Model) return []
  try {
    new Model(manifest as never).validate()
    return []
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)]
  }
}

const FILE = `${import.meta.dirname}/manifests-as-types.ts`
const OPTIONS: ts.CompilerOptions = {
  strict: true,
  noEmit: true,
  skipLibCheck: true,
  types: [],
  lib: ['lib.es2022.d.ts'],
  target: ts.ScriptTarget.ES2022,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
}

/** Parsed once. */
const libraries = new Map<string, ts.SourceFile | undefined>()

/** The compiler refuses a field of a literal that its type does not have, at any depth. */
function wrongFields(manifests: readonly Manifest[]): string[] {
  const source = manifests
    .map(({ kind, ...manifest }, index) => {
      const { from = '' } = kinds[`${manifest.apiVersion} ${kind}`] ?? {}
      const literal = JSON.stringify({ kind, ...manifest }, undefined, 1)
      return `import type { I${kind} as T${index} } from '${from}'\nexport const m${index}: T${index} = ${literal}`
    })
    .join('\n')
  const host = ts.createCompilerHost(OPTIONS)
  const { getSourceFile, fileExists, readFile } = host
  const onDisk = { getSourceFile: getSourceFile.bind(host), fileExists: fileExists.bind(host), readFile: readFile.bind(host) }
  host.getSourceFile = (name, ...rest) => {
    if (name === FILE) return ts.createSourceFile(name, source, ts.ScriptTarget.ES2022)
    const parsed = libraries.get(name) ?? onDisk.getSourceFile(name, ...rest)
    libraries.set(name, parsed)
    return parsed
  }
  host.fileExists = (name) => name === FILE || onDisk.fileExists(name)
  host.readFile = (name) => (name === FILE ? source : onDisk.readFile(name))
  const program = ts.createProgram([FILE], OPTIONS, host)
  return [...program.getOptionsDiagnostics(), ...ts.getPreEmitDiagnostics(program, program.getSourceFile(FILE))].map(
    ({ messageText }) => ts.flattenDiagnosticMessageText(messageText, ' '),
  )
}
