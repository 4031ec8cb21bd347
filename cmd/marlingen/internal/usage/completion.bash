# Completions of {{.Name}} for bash.
_{{.Name}}() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=''
  COMPREPLY=()
  if [ "$cur" = = ]; then # --flag=
    cur=''
  elif [ "$prev" = = ]; then # --flag=value
    prev=${COMP_WORDS[COMP_CWORD-2]}
  fi
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{{range .Commands}}{{.Name}} {{end}}--help'
  else
    case "${COMP_WORDS[1]} $prev" in
{{- range $c := .Commands}}{{range .Flags}}{{if .Words}}
    {{quote (printf "%s --%s" $c.Name .Name)}}) words={{quote (join .Words)}} ;;{{end}}{{end}}{{end}}
    *)
      case "${COMP_WORDS[1]} $cur" in
{{- range $c := .Commands}}
      {{quote (printf "%s -" .Name)}}*) words='{{range $i, $f := .Flags}}{{if $i}} {{end}}--{{.Name}}{{end}}' ;;
{{- if .Words}}
      {{quote (printf "%s " .Name)}}*) words={{quote (join .Words)}} ;;{{end}}{{end}}
      esac ;;
    esac
  fi
  if [ -n "$words" ]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  fi
}
complete -o default -F _{{.Name}} {{.Name}}
