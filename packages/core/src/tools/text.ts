import type { Notice } from '../errors/deltabox-error.js'
import { isDeltaboxError } from '../errors/deltabox-error.js'

/** What of a stream a model gets to see; the end says more than the beginning (a test's summary, a traceback). */
const MAX_HEAD_CHARS = 8_000
const MAX_TAIL_CHARS = 16_000

/** Shortens a long stream in its middle and says so. */
export function shorten(text: string): string {
  if (text.length <= MAX_HEAD_CHARS + MAX_TAIL_CHARS) return text
  const leftOut = text.length - MAX_HEAD_CHARS - MAX_TAIL_CHARS
  return `${text.slice(0, MAX_HEAD_CHARS)}\n[… ${leftOut} characters left out …]\n${text.slice(-MAX_TAIL_CHARS)}`
}

/** The streams of a command, each under its name, empty ones left out. */
export function renderStreams({ stdout, stderr }: { readonly stdout: string; readonly stderr: string }): string {
  const section = (name: string, text: string) => (text === '' ? '' : `\n[${name}]\n${text.replace(/\n$/, '')}`)
  return section('stdout', stdout) + section('stderr', stderr)
}

/** Notices as lines under a heading; empty when there are none. */
export function renderNotices(heading: string, notices: readonly Notice[]): string {
  if (notices.length === 0) return ''
  const lines = notices.map(({ pid, kind, reason }) => `- ${pid === 0 ? '' : `pid ${pid}: `}${kind}: ${reason}`)
  return `\n${heading}\n${lines.join('\n')}`
}

/** A failure as text and data: the same for all adapters, with the next step in the text. */
export function renderFailure(error: unknown): { text: string; data: Record<string, unknown> } {
  if (!isDeltaboxError(error)) {
    const message = error instanceof Error ? error.message : String(error)
    return { text: `INTERNAL: ${message}`, data: { error: { code: 'INTERNAL', message } } }
  }
  const data = error.data as { stdout?: string; stderr?: string; details?: readonly Notice[] }
  const streams = renderStreams({ stdout: shorten(data.stdout ?? ''), stderr: shorten(data.stderr ?? '') })
  const details = renderNotices('details:', data.details ?? [])
  return {
    text: `${error.code}: ${error.message}\nNext: ${error.nextStep}${details}${streams}`,
    data: { error: { code: error.code, message: error.message, nextStep: error.nextStep } },
  }
}
