#compdef {{.Name}}
# Completions of {{.Name}} for zsh.
_{{.Name}}() {
  local -a commands
  commands=(
{{- range .Commands}}
    {{quote (printf "%s:%s" .Name (plain .Help))}}
{{- end}}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{{- range .Commands}}
  {{.Name}})
    _arguments \
{{- range .Flags}}
      {{if not .Value}}{{quote (printf "--%s[%s]" .Name (plain .Help))}}
      {{- else if .Words}}{{quote (printf "--%s=[%s]:%s:(%s)" .Name (plain .Help) (plain .Value) (join .Words))}}
      {{- else if .Folder}}{{quote (printf "--%s=[%s]:%s:_files -/" .Name (plain .Help) (plain .Value))}}
      {{- else}}{{quote (printf "--%s=[%s]:%s:_files" .Name (plain .Help) (plain .Value))}}{{end}} \
{{- end}}
      {{if .Words}}{{quote (printf "*::(%s)" (join .Words))}}{{else}}'*::_files'{{end}} ;;
{{- end}}
  esac
}
if [ "$funcstack[1]" = _{{.Name}} ]; then
  _{{.Name}} "$@"
else
  compdef _{{.Name}} {{.Name}}
fi
