package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/urfave/cli/v2"
)

func helpVerb() *verb {
	return &verb{
		name:  "help",
		form:  "[VERB]",
		short: "this list, or the manual of one verb",
		long:  "Prints the list of verbs, or the manual of one of them. `peer VERB --help` is the same.",
		group: groupSetup,
		max:   2,
		run: func(inv *invocation) error {
			if len(inv.args) == 0 {
				return inv.overview(inv.stdout)
			}
			parent, all := "", verbs()
			var v *verb
			for _, word := range inv.args {
				if v = findVerb(all, word); v == nil {
					return unknownVerb(parent, word, all)
				}
				parent, all = parent+word+" ", v.verbs
			}
			return inv.manual(inv.stdout, v)
		},
	}
}

const (
	groupRun   = "Run it"
	groupAsk   = "Who is alive, whose turn is it"
	groupLock  = "Who may go in"
	groupSetup = "Set up"
)

// overview is `peer help`.
func (inv *invocation) overview(w io.Writer) error {
	fmt.Fprint(w, "peer answers three questions on every host: who is alive, whose turn is it, who may go in.\n\nusage: peer VERB [FLAGS] [ARGUMENTS]\n")
	for _, group := range []string{groupRun, groupAsk, groupLock, groupSetup} {
		fmt.Fprintf(w, "\n%s\n", group)
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, v := range verbs() {
			if v.group == group {
				fmt.Fprintf(tw, "  %s\t%s\n", strings.TrimSpace(v.name+" "+v.brief()), v.short)
			}
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprint(w, "\n`peer dev` starts a cluster on this machine to play with. `peer help VERB` is the manual of a verb.\n")
	return err
}

// brief is the form without its flags.
func (v *verb) brief() string {
	var out []string
	depth := 0
	for word := range strings.FieldsSeq(v.form) {
		opens := strings.HasPrefix(word, "[-")
		if opens || depth > 0 {
			depth += strings.Count(word, "[") - strings.Count(word, "]")
			continue
		}
		out = append(out, word)
	}
	return strings.Join(out, " ")
}

// manual is `peer help VERB`.
func (inv *invocation) manual(w io.Writer, v *verb) error {
	fmt.Fprintf(w, "%s: %s\n\nusage: %s %s\n\n%s\n", v.path(), v.short, v.path(), v.form, strings.TrimSpace(v.long))
	if v.verbs != nil {
		fmt.Fprint(w, "\nVerbs\n")
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, sub := range v.verbs {
			fmt.Fprintf(tw, "  %s %s\t%s\n", sub.name, sub.brief(), sub.short)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if len(v.flags) > 0 {
		fmt.Fprint(w, "\nFlags\n")
		tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, f := range v.flags {
			fmt.Fprintf(tw, "  %s\n", flagLine(f))
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	if v.examples != "" {
		fmt.Fprint(w, "\nExamples\n")
		for line := range strings.Lines(strings.Trim(v.examples, "\n")) {
			fmt.Fprint(w, "  ", strings.TrimLeft(line, "\t"))
		}
		fmt.Fprintln(w)
	}
	if v.verbs != nil {
		return nil
	}
	fmt.Fprint(w, "\nExit codes\n")
	codes := append([]int{exitError, exitUsage}, v.exits...)
	slices.Sort(codes)
	if v.command {
		fmt.Fprintf(w, "  %s; else\n", cmp.Or(v.ends, "COMMAND's own, if it ran and the lock was held until it ended"))
	} else {
		codes = append([]int{exitOK}, codes...)
	}
	for _, code := range codes {
		label := fmt.Sprint(code)
		if code == exitSignal {
			label = "128+n"
		}
		fmt.Fprintf(w, "  %-5s  %s\n", label, exitTexts[code])
	}
	return nil
}

// flagLine is a flag's entry: its names and placeholder, a tab, what it does.
func flagLine(f cli.Flag) string {
	var usage string
	placeholder, repeat := "", ""
	switch f := f.(type) {
	case *cli.StringFlag:
		usage, placeholder = f.Usage, "VALUE"
	case *cli.StringSliceFlag:
		usage, placeholder, repeat = f.Usage, "VALUE", "; repeatable"
	case *cli.DurationFlag:
		usage, placeholder = f.Usage, "DURATION"
	case *cli.IntFlag:
		usage, placeholder = f.Usage, "N"
	case *cli.Uint64Flag:
		usage, placeholder = f.Usage, "N"
	case *cli.BoolFlag:
		usage = f.Usage
	}
	// A word in backquotes is the placeholder, as in package flag.
	if a, rest, ok := strings.Cut(usage, "`"); ok {
		if word, b, ok := strings.Cut(rest, "`"); ok {
			placeholder, usage = word, a+word+b
		}
	}
	var names []string
	for _, n := range f.Names() {
		names = append(names, dashed(n))
	}
	return strings.TrimSpace(strings.Join(names, ", ")+" "+placeholder) + "\t" + usage + repeat
}
