package main

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/urfave/cli/v2"
)

// completionWord is the last argument by which a shell asks for what may stand
// in the place before it. A command line that ends so runs nothing.
const completionWord = "--generate-bash-completion"

// completeWithin bounds what a shell has to wait for names.
const completeWithin = time.Second

//go:embed packaging/completion/peer.bash
var bashCompletion string

//go:embed packaging/completion/_peer
var zshCompletion string

//go:embed packaging/completion/peer.fish
var fishCompletion string

func completionVerb() *verb {
	return &verb{
		name:  "completion",
		form:  "bash|zsh|fish",
		short: "the completion script of a shell",
		long: `
Prints the script that makes a shell complete verbs, flags, members, services and locks.
What stands behind ` + "`--`" + ` is completed as a command of its own, and never run.`,
		examples: `
			# bash, for this user
			peer completion bash >~/.local/share/bash-completion/completions/peer
			# zsh: into a directory of $fpath
			peer completion zsh >~/.zsh/completions/_peer
			# fish
			peer completion fish >~/.config/fish/completions/peer.fish`,
		group: groupSetup,
		min:   1, max: 1,
		run: func(inv *invocation) error {
			scripts := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}
			s, ok := scripts[inv.args[0]]
			if !ok {
				return inv.usage("no completion for %q; want bash, zsh or fish", inv.args[0])
			}
			_, err := fmt.Fprint(inv.stdout, s)
			return err
		},
	}
}

// complete prints what may stand in the place of the last of words, which may be
// empty, one a line. It prints nothing when in doubt, and runs nothing.
func (p *program) complete(ctx context.Context, words []string) {
	if slices.Contains(words, "--") {
		return
	}
	last, before := "", words
	if n := len(words); n > 0 {
		last, before = words[n-1], words[:n-1]
	}
	var out []string
	all := verbs()
	var v *verb
	for len(before) > 0 {
		next := findVerb(all, before[0])
		if next == nil {
			break
		}
		v, all, before = next, next.verbs, before[1:]
	}
	switch {
	case v == nil && len(before) > 0:
		return
	case v == nil || (v.verbs != nil && len(before) == 0 && !strings.HasPrefix(last, "-")):
		for _, x := range all {
			out = append(out, x.name)
		}
		if v != nil && v.run != nil { // a word of the verb's own is possible too
			out = append(out, p.completeArgument(ctx, v, before)...)
		}
	case strings.HasPrefix(last, "-"):
		for _, name := range flagNames(v) {
			out = append(out, dashed(name))
		}
	default:
		out = p.completeArgument(ctx, v, before)
	}
	for _, s := range out {
		if strings.HasPrefix(s, last) {
			fmt.Fprintln(p.stdout, s)
		}
	}
}

// completeArgument returns the candidates for an argument, or for the value of
// the flag before it.
func (p *program) completeArgument(ctx context.Context, v *verb, before []string) []string {
	if n := len(before); n > 0 && strings.HasPrefix(before[n-1], "-") {
		name := strings.TrimLeft(before[n-1], "-")
		for _, f := range v.flags {
			if _, isBool := f.(*cli.BoolFlag); !isBool && slices.Contains(f.Names(), name) {
				return p.completeValue(ctx, name)
			}
		}
	}
	switch v.name {
	case "members":
		return p.memberNames(ctx)
	case "next", "watch", "services":
		return p.serviceNames(ctx, false)
	case "deregister", "pass", "drain":
		return p.serviceNames(ctx, true)
	case "lock", "elect", "locks", "unlock":
		return p.lockNames(ctx)
	case "completion":
		return []string{"bash", "zsh", "fish"}
	case "help":
		var out []string
		for _, x := range verbs() {
			out = append(out, x.name)
		}
		return out
	}
	return nil
}

func (p *program) completeValue(ctx context.Context, flag string) []string {
	switch flag {
	case "state":
		return memberStates
	case "output", "o":
		return []string{"table", "wide", "json", "jsonl", "name", "template="}
	case "exclude":
		return p.memberNames(ctx)
	case "service":
		return p.serviceNames(ctx, false)
	case "lock":
		return p.lockNames(ctx)
	case "log-level":
		return []string{"trace", "debug", "info", "warn", "error"}
	case "log-format":
		return []string{"text", "json"}
	}
	return nil
}

// quietClient is a client for names in a completion, or nil.
func (p *program) quietClient() *api.Client {
	addr := p.envAddr()
	if addr == "" {
		if path, _ := p.configPath(""); path != "" {
			addr = agentAddrOf(path)
		}
	}
	c, err := api.NewClient(addr, api.WithTimeout(completeWithin))
	if err != nil {
		return nil
	}
	return c
}

func (p *program) memberNames(ctx context.Context) []string {
	c := p.quietClient()
	if c == nil {
		return nil
	}
	m, _ := c.Members(ctx, api.MembersQuery{})
	var out []string
	for _, x := range m.Members {
		out = append(out, cell(x.Name))
	}
	return out
}

// serviceNames are those of the whole cluster, or of the agent's own host.
func (p *program) serviceNames(ctx context.Context, local bool) []string {
	c := p.quietClient()
	if c == nil {
		return nil
	}
	doc, _ := c.Services(ctx, api.ServicesQuery{})
	var out []string
	for _, g := range doc.Services {
		if !local || slices.ContainsFunc(g.Instances, func(i api.ServiceInstance) bool { return i.Self }) {
			out = append(out, cell(g.Name))
		}
	}
	return out
}

func (p *program) lockNames(ctx context.Context) []string {
	c := p.quietClient()
	if c == nil {
		return nil
	}
	l, _ := c.Locks(ctx)
	var out []string
	for _, x := range l.Locks {
		out = append(out, cell(x.Name))
	}
	return out
}
