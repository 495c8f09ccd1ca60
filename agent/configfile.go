package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// ReadConfigFile reads peer.yaml at path, and then every *.yaml and *.yml of the
// directory conf.d beside it, in the order of their names: a later value
// replaces an earlier one, maps are merged, lists grow.
//
// It is strict. Every key that does not exist and every value of the wrong kind
// is reported, all at once, as FILE:LINE:COLUMN with what was probably meant.
// Settings that are not in the files are zero in the result; whether their
// values make sense is Validate's to say.
func ReadConfigFile(path string) (Config, error) {
	var c Config
	files := []string{path}
	more, err := configDir(filepath.Join(filepath.Dir(path), "conf.d"))
	errs := []error{err}
	for _, file := range append(files, more...) {
		data, err := os.ReadFile(file)
		if err != nil {
			errs = append(errs, fmt.Errorf("read configuration: %w", err))
			continue
		}
		errs = append(errs, decodeConfig(file, data, &c))
	}
	return c, errors.Join(errs...)
}

// configDir lists the files of conf.d. There need not be one.
func configDir(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var out []string
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); (ext == ".yaml" || ext == ".yml") && !e.IsDir() {
			out = append(out, filepath.Join(dir, e.Name()))
		}
	}
	return out, nil
}

// decodeConfig adds the settings in data to c.
func decodeConfig(file string, data []byte, c *Config) error {
	d := configDecoder{file: file}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return d.syntax(err)
	}
	documents := 0
	for _, doc := range tree.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if documents++; documents > 1 {
			d.fail(doc.Body, "a second document; one file is one document")
			break
		}
		d.value(doc.Body, "", reflect.ValueOf(c).Elem())
	}
	return errors.Join(d.errs...)
}

// configDecoder walks a file's tree beside the value that it fills. The library
// stops at the first mistake; a person wants to hear of all of them.
type configDecoder struct {
	file string
	errs []error
}

func (d *configDecoder) fail(n ast.Node, format string, a ...any) {
	at := d.file
	if t := n.GetToken(); t != nil && t.Position != nil {
		at = fmt.Sprintf("%s:%d:%d", d.file, t.Position.Line, t.Position.Column)
	}
	d.errs = append(d.errs, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, a...)))
}

func (d *configDecoder) syntax(err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) && ye.GetToken() != nil && ye.GetToken().Position != nil {
		pos := ye.GetToken().Position
		return fmt.Errorf("%s:%d:%d: %s", d.file, pos.Line, pos.Column, ye.GetMessage())
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Errorf("%s: %s", d.file, text)
}

// value decodes n, which stands at path, into v.
func (d *configDecoder) value(n ast.Node, path string, v reflect.Value) {
	switch m := n.(type) {
	case *ast.AnchorNode:
		d.value(m.Value, path, v)
		return
	case *ast.TagNode:
		d.value(m.Value, path, v)
		return
	case *ast.AliasNode:
		d.fail(n, "%s: an alias; write the value out", path)
		return
	case *ast.NullNode, nil:
		return // a key without a value sets nothing
	}
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		d.duration(n, path, v)
	case v.Kind() == reflect.Pointer: // tells what is not there from a zero
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem())
	case v.Kind() == reflect.Struct:
		d.fields(n, path, v)
	case v.Kind() == reflect.Map:
		d.entries(n, path, v)
	case v.Kind() == reflect.Slice:
		d.items(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

// fields decodes a mapping into a struct.
func (d *configDecoder) fields(n ast.Node, path string, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(n, "%s: want a mapping of settings, not %s", place(path), kindOf(n))
		return
	}
	known := make(map[string]int)
	var names []string
	for i := range v.NumField() {
		if name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); name != "" && name != "-" {
			known[name] = i
			names = append(names, name)
		}
	}
	for it := m.MapRange(); it.Next(); {
		name := keyOf(it.Key())
		i, ok := known[name]
		if !ok {
			text := fmt.Sprintf("unknown key %q", join(path, name))
			if near := nearestKey(name, names); near != "" {
				text += fmt.Sprintf("; did you mean %q?", join(path, near))
			}
			d.fail(it.Key(), "%s", text)
			continue
		}
		d.value(it.Value(), join(path, name), v.Field(i))
	}
}

// entries decodes a mapping into a map, beside what is in it.
func (d *configDecoder) entries(n ast.Node, path string, v reflect.Value) {
	m, ok := n.(ast.MapNode)
	if !ok {
		d.fail(n, "%s: want a mapping, not %s", path, kindOf(n))
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for it := m.MapRange(); it.Next(); {
		name := keyOf(it.Key())
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(it.Value(), join(path, name), e)
		v.SetMapIndex(reflect.ValueOf(name), e)
	}
}

// items decodes a sequence behind what is in the slice. One scalar stands for a
// list of one.
func (d *configDecoder) items(n ast.Node, path string, v reflect.Value) {
	s, ok := n.(*ast.SequenceNode)
	values := []ast.Node{n}
	if ok {
		values = s.Values
	} else if _, scalar := n.(ast.ScalarNode); !scalar || v.Type().Elem().Kind() == reflect.Struct {
		d.fail(n, "%s: want a list, not %s", path, kindOf(n))
		return
	}
	for i, item := range values {
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(item, fmt.Sprintf("%s[%d]", path, i), e)
		v.Set(reflect.Append(v, e))
	}
}

func (d *configDecoder) duration(n ast.Node, path string, v reflect.Value) {
	text, ok := text(n)
	t, err := time.ParseDuration(text)
	if !ok || err != nil || t < 0 {
		d.fail(n, "%s: want a duration such as 500ms, 10s or 72h, not %s", path, shown(n, text))
		return
	}
	v.SetInt(int64(t))
}

func (d *configDecoder) scalar(n ast.Node, path string, v reflect.Value) {
	text, ok := text(n)
	if !ok {
		d.fail(n, "%s: want one value, not %s", path, kindOf(n))
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Bool:
		b, isBool := n.(*ast.BoolNode)
		if !isBool {
			d.fail(n, "%s: want true or false, not %s", path, shown(n, text))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Int64, reflect.Int32:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			d.fail(n, "%s: want a whole number, not %s", path, shown(n, text))
			return
		}
		v.SetInt(i)
	case reflect.Uint, reflect.Uint64, reflect.Uint32, reflect.Uint16:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			d.fail(n, "%s: want a whole number up to %d, not %s", path, uint64(1)<<v.Type().Bits()-1, shown(n, text))
			return
		}
		v.SetUint(u)
	default:
		d.fail(n, "%s: cannot be set in a file", path)
	}
}

// text returns a scalar as it is written: a tag called 007 stays 007.
func text(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.BoolNode, *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

func keyOf(n ast.MapKeyNode) string {
	if s, ok := text(n); ok {
		return s
	}
	return n.String()
}

func kindOf(n ast.Node) string {
	switch n.(type) {
	case ast.MapNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	}
	if s, ok := text(n); ok {
		return shown(n, s)
	}
	return "something else"
}

func shown(n ast.Node, text string) string {
	if _, scalar := n.(ast.ScalarNode); !scalar {
		return kindOf(n)
	}
	if r := []rune(text); len(r) > 40 {
		text = string(r[:40]) + "…"
	}
	return strconv.Quote(text)
}

func place(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// nearestKey returns the name that key was probably meant to be, or "": the one
// with the fewest letters to change or to swap, and few of them.
func nearestKey(key string, names []string) string {
	best, found := 1+max(1, len(key)/3), ""
	for _, name := range names {
		before, last := make([]int, len(name)+1), make([]int, len(name)+1)
		for j := range last {
			last[j] = j
		}
		for i := range len(key) {
			row := append(make([]int, 0, len(name)+1), i+1)
			for j := range len(name) {
				change := last[j]
				if key[i] != name[j] {
					change++
				}
				d := min(change, last[j+1]+1, row[j]+1)
				if i > 0 && j > 0 && key[i] == name[j-1] && key[i-1] == name[j] {
					d = min(d, before[j-1]+1)
				}
				row = append(row, d)
			}
			before, last = last, row
		}
		if last[len(name)] < best {
			best, found = last[len(name)], name
		}
	}
	return found
}
