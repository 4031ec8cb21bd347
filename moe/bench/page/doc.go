// Package page renders results as pages: Markdown, and HTML that needs nothing
// but itself.
//
// A page has no numbers of its own. What a template is given is text of a
// document or a Figure, and a Figure is made only from a Run, a document whose
// numbers may be quoted. A document that may not be quoted is a Refusal, which
// keeps its reasons and nothing else of it.
package page
