# Completions of {{.Name}} for fish.
complete -c {{.Name}} -n __fish_use_subcommand -f -l help -d 'Show context-sensitive help.'
{{- range $c := .Commands}}
complete -c {{$.Name}} -n __fish_use_subcommand -f -a {{.Name}} -d {{fish .Help}}
{{- range .Flags}}
complete -c {{$.Name}} -n '__fish_seen_subcommand_from {{$c.Name}}' -l {{.Name}}
{{- if .Words}} -x -a {{fish (join .Words)}}{{else if .Folder}} -x -a '(__fish_complete_directories)'{{else if .Value}} -r{{end}} -d {{fish .Help}}
{{- end}}
{{- if .Words}}
complete -c {{$.Name}} -n '__fish_seen_subcommand_from {{.Name}}' -f -a {{fish (join .Words)}}
{{- end}}
{{- end}}
