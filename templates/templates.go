// Package templates holds the Metal that kernels are generated from. Only
// library.metal.tmpl is a template in the sense of text/template; all else is
// plain Metal, parameterised by C++ templates.
package templates

import "embed"

// FS holds the files of this folder.
//
//go:embed *.metal *.tmpl codecs/*.metal families/*.metal passes/*.metal
var FS embed.FS
