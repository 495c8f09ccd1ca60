package main

import (
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/mattn/go-isatty"
)

// isTerminal says whether what is written to w is read by a person at once.
func isTerminal(w io.Writer) bool {
	if q, ok := w.(*logWriter); ok {
		w = q.to
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	c, err := f.SyscallConn() // not Fd, which takes a shared descriptor out of non-blocking mode
	if err != nil {
		return false
	}
	terminal := false
	err = c.Control(func(fd uintptr) { terminal = isatty.IsTerminal(fd) })
	return err == nil && terminal
}

// colour says whether w may carry colours.
func (p *program) colour(w io.Writer) bool {
	return isTerminal(w) && p.env("NO_COLOR") == "" && p.env("TERM") != "dumb"
}

const (
	styleNone   = ""
	styleBad    = "\x1b[31m"
	styleWarn   = "\x1b[33m"
	styleGood   = "\x1b[32m"
	styleFaint  = "\x1b[2m"
	styleStrong = "\x1b[1m"
	styleEnd    = "\x1b[0m"
)

// clean takes out of s what could move the cursor, hide text or ring a bell.
// Names and messages come from other hosts; a terminal obeys what it is shown.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == unicode.ReplacementChar:
			return -1
		}
		return r
	}, s)
}

// cell is clean for one cell of a table: one line, no tabs, never empty.
func cell(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	if s == "" {
		return "-"
	}
	return s
}
