package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/template"

	"github.com/urfave/cli/v2"
)

const formats = "table|wide|json|jsonl|name|template=TEXT"

// outputFlag is -o of every verb that prints data.
func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "print as `FORMAT`: table, wide, json, jsonl, name or template=TEXT (a Go template over the JSON)"}
}

// format is a checked -o.
type format struct {
	kind     string
	template *template.Template
}

func (inv *invocation) format() (format, error) {
	s := inv.flag("output")
	kind, text, hasText := strings.Cut(s, "=")
	switch {
	case s == "":
		return format{kind: "table"}, nil
	case kind == "template" && hasText:
		t, err := template.New("-o").Option("missingkey=error").Funcs(template.FuncMap{"json": toJSON}).Parse(text)
		if err != nil {
			return format{}, inv.usage("the template does not parse: %v", err)
		}
		return format{kind: kind, template: t}, nil
	case hasText:
	case kind == "table", kind == "wide", kind == "json", kind == "jsonl", kind == "name":
		return format{kind: kind}, nil
	}
	text = fmt.Sprintf("unknown output format %q; want %s", s, formats)
	if near := nearest(kind, []string{"table", "wide", "json", "jsonl", "name", "template"}); near != "" && near != kind {
		text = fmt.Sprintf("unknown output format %q; did you mean %q?", s, near)
	}
	return format{}, inv.usage("%s", text)
}

func toJSON(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

// document is one answer, in all the forms that it can be printed in.
type document struct {
	body  []byte // as the agent sent it
	items string // the key of the list in body that jsonl and template walk through, or empty
	names []string
	table func(t *table, wide bool)
}

func (inv *invocation) print(f format, d document) error {
	switch f.kind {
	case "json":
		return inv.printBody(d.body)
	case "jsonl", "template":
		return inv.printItems(f, d)
	case "name":
		for _, n := range d.names {
			if _, err := fmt.Fprintln(inv.stdout, cell(n)); err != nil {
				return err
			}
		}
		return nil
	}
	t := &table{}
	d.table(t, f.kind == "wide")
	return t.write(inv.stdout, inv.colour(inv.stdout))
}

// printBody prints an answer byte for byte.
func (inv *invocation) printBody(body []byte) error {
	_, err := inv.stdout.Write(body)
	if err == nil && !bytes.HasSuffix(body, []byte("\n")) && isTerminal(inv.stdout) {
		_, err = fmt.Fprintln(inv.stdout)
	}
	return err
}

func (inv *invocation) printItems(f format, d document) error {
	items, err := d.split()
	if err != nil {
		return err
	}
	for _, item := range items {
		var out bytes.Buffer
		if f.kind == "jsonl" {
			if err := json.Compact(&out, item); err != nil {
				return err
			}
		} else {
			var v any
			dec := json.NewDecoder(bytes.NewReader(item))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil {
				return fmt.Errorf("read answer: %w", err)
			}
			if err := f.template.Execute(&out, v); err != nil {
				var ee template.ExecError
				if errors.As(err, &ee) {
					err = ee.Err
				}
				return inv.usage("the template does not fit: %v", err)
			}
		}
		s := out.String()
		if f.kind == "template" && isTerminal(inv.stdout) {
			s = clean(s)
		}
		if _, err := fmt.Fprintln(inv.stdout, s); err != nil {
			return err
		}
	}
	return nil
}

// split returns the members of the list in the body, or the body as the only one.
func (d document) split() ([]json.RawMessage, error) {
	if d.items == "" {
		return []json.RawMessage{d.body}, nil
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(d.body, &m); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	var items []json.RawMessage
	if err := json.Unmarshal(m[d.items], &items); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return items, nil
}
