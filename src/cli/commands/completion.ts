/** egressctl completion: completion scripts for shells, generated from the commands and their options. */
import { type Command, Argument, type Option } from 'commander';
import { line } from '../common/output.js';
import { EVENT_TYPES, PROTOCOLS, VERDICTS } from '../../flow/filter/options.js';

const SHELLS = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof SHELLS)[number];

/** Completions for options whose values are not declared as choices. */
const VALUES: Readonly<Record<string, readonly string[]>> = {
  '--verdict': [...VERDICTS, 'ALLOWED', 'DENIED'],
  '--protocol': PROTOCOLS,
  '--type': EVENT_TYPES,
  '--tcp-flags': ['SYN', 'ACK', 'FIN', 'RST'],
  '--last': ['all'],
  '--since': ['1m', '5m', '15m', '1h'],
  '--drop-reason-desc': ['POLICY_DENIED', 'POLICY_DENY'],
  '--traffic-direction': ['ingress', 'egress'],
  '--ip-version': ['4', '6'],
  '--http-method': ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'CONNECT'],
  '--reply': ['true', 'false'],
};
const FILES: ReadonlySet<string> = new Set(['--socket', '--kubeconfig', '--manifests', '--with', '--names']);
/** Commands whose arguments are files or directories. */
const OF_FILES = ['validate', 'lint', 'test', 'diff', 'convert', 'import'];

export function completionCommand(program: Command): void {
  program
    .command('completion')
    .addArgument(new Argument('<shell>').choices(SHELLS))
    .description('Print a completion script for a shell.')
    .addHelpText(
      'after',
      `
Installation:
  bash: source <(egressctl completion bash)
  zsh:  egressctl completion zsh > "\${fpath[1]}/_egressctl"
  fish: egressctl completion fish > ~/.config/fish/completions/egressctl.fish`,
    )
    .action(async (shell: Shell) => {
      await line({ bash, zsh, fish }[shell](program));
    });
}

function optionsOf(program: Command, command: Command): Option[] {
  return [...program.options, ...command.options].filter((o) => !o.hidden && o.long);
}

function valuesOf(option: Option): readonly string[] {
  return option.argChoices ?? VALUES[option.long ?? ''] ?? [];
}

const namesOf = (c: Command) => [c.name(), ...c.aliases()];
const flagsOf = (o: Option) => [o.long, o.short].filter((s) => s !== undefined);
const takesValue = (o: Option) => o.required || o.optional;

function bash(program: Command): string {
  const words = program.commands.map((c) => {
    const flags = optionsOf(program, c).flatMap(flagsOf);
    return `    ${namesOf(c).join('|')}) words="${flags.join(' ')} --help" ;;`;
  });
  const values = program.commands.flatMap((c) =>
    optionsOf(program, c)
      .filter((o) => valuesOf(o).length > 0)
      .map((o) => {
        const keys = namesOf(c).flatMap((name) => flagsOf(o).map((flag) => `"${name} ${flag}"`));
        return `    ${keys.join('|')}) mapfile -t COMPREPLY < <(compgen -W "${valuesOf(o).join(' ')}" -- "$cur"); return ;;`;
      }),
  );
  const all = [...program.options, ...program.commands.flatMap((c) => c.options)];
  const valued = [...new Set(all.filter(takesValue).flatMap(flagsOf))];
  return `# bash completion for egressctl
_egressctl() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} command= word words= i
  # The first word that is neither an option nor an option's value.
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case $word in
      ${valued.join('|')}) ((i++)) ;;
      -*) ;;
      *) command=$word; break ;;
    esac
  done
  case $prev in
    ${[...FILES].join('|')}) compopt -o default 2>/dev/null; return ;;
  esac
  case "$command $prev" in
${values.join('\n')}
  esac
  case $prev in
    ${valued.join('|')}) return ;;
  esac
  case $command in
    completion) [[ $cur == -* ]] || { mapfile -t COMPREPLY < <(compgen -W "${SHELLS.join(' ')}" -- "$cur"); return; } ;;
    ${OF_FILES.join('|')}) [[ $cur == -* ]] || { compopt -o default 2>/dev/null; return; } ;;
  esac
  case $command in
${words.join('\n')}
    *) words="${program.commands.flatMap(namesOf).join(' ')} ${program.options.flatMap(flagsOf).join(' ')} --help" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}
complete -F _egressctl egressctl`;
}

function zsh(program: Command): string {
  const quote = (s: string) => s.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');
  const argument = (o: Option) => {
    if (!takesValue(o)) return '';
    const action = FILES.has(o.long ?? '') ? '_files' : valuesOf(o).length > 0 ? `(${valuesOf(o).join(' ')})` : ' ';
    return `:${quote(o.attributeName())}:${action}`;
  };
  const spec = (o: Option) => flagsOf(o).map((flag) => `      '*${flag}[${quote(o.description)}]${argument(o)}'`);
  return `#compdef egressctl
_egressctl() {
  local -a commands=(
${program.commands.map((c) => `    '${c.name()}:${quote(c.description())}'`).join('\n')}
  )
  local curcontext="$curcontext" state line
  _arguments -C '1:command:->command' '*::argument:->argument'
  case $state in
    command) _describe command commands ;;
    argument) case $line[1] in
${program.commands
  .map(
    (c) =>
      `    ${namesOf(c).join('|')}) _arguments \\\n${[...optionsOf(program, c).flatMap(spec), `      '*:argument:${c.name() === 'completion' ? `(${SHELLS.join(' ')})` : '_files'}'`].join(' \\\n')} ;;`,
  )
  .join('\n')}
    esac ;;
  esac
}
# An autoloaded file must run the function. A sourced file must register it.
if [ "\${funcstack[1]}" = _egressctl ]; then _egressctl "$@"; else compdef _egressctl egressctl; fi`;
}

function fish(program: Command): string {
  const quote = (s: string) => `'${s.replace(/[\\']/g, '\\$&')}'`;
  const lines = ['# fish completion for egressctl', 'complete -c egressctl -f'];
  for (const c of program.commands) {
    lines.push(`complete -c egressctl -n __fish_use_subcommand -a ${c.name()} -d ${quote(c.description())}`);
    for (const o of optionsOf(program, c)) {
      const short = o.short ? ` -s ${o.short.slice(1)}` : '';
      const value = !takesValue(o) ? '' : FILES.has(o.long ?? '') ? ' -r -F' : ` -x -a ${quote(valuesOf(o).join(' '))}`;
      lines.push(
        `complete -c egressctl -n '__fish_seen_subcommand_from ${namesOf(c).join(' ')}' -l ${(o.long ?? '').slice(2)}${short}${value} -d ${quote(o.description)}`,
      );
    }
  }
  lines.push(`complete -c egressctl -n '__fish_seen_subcommand_from completion' -a ${quote(SHELLS.join(' '))}`);
  lines.push(`complete -c egressctl -n '__fish_seen_subcommand_from ${OF_FILES.join(' ')}' -F`);
  return lines.join('\n');
}
