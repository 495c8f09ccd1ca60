// Package web draws an agent's status page.
//
// One view, computed here from the wire types, is drawn twice: as HTML by a
// template, complete without any script, and as JSON from which the page's
// script refreshes what the template drew. Words, units and order are decided
// once, in Go; the script copies text.
//
// Everything about other peers (names, tags, versions, errors) was written by
// them: the template escapes it, the script only ever assigns text, and the
// content policy that httpapi sends leaves markup no way in.
//
// The files are embedded as they are written: there is no build step.
package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"path"
	"strings"
)

// AssetPrefix is the path under which the page looks for its assets.
const AssetPrefix = "/static/"

//go:embed page.html assets
var files embed.FS

// Asset is one embedded file. Its name carries a hash of its bytes, so that it
// may be cached for ever.
type Asset struct {
	Type string
	Body []byte
}

// Pages holds the parsed page and its assets. It is immutable.
type Pages struct {
	page   *template.Template
	assets map[string]Asset // by hashed name
}

var assetTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// New parses the embedded files.
func New() (*Pages, error) {
	p := &Pages{assets: map[string]Asset{}}
	hashed := map[string]string{}
	names, err := fs.Glob(files, "assets/*")
	if err != nil {
		return nil, fmt.Errorf("list page assets: %w", err)
	}
	for _, name := range names {
		body, err := files.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read page asset: %w", err)
		}
		sum := sha256.Sum256(body)
		base, ext := path.Base(name), path.Ext(name)
		full := strings.TrimSuffix(base, ext) + "." + hex.EncodeToString(sum[:6]) + ext
		p.assets[full] = Asset{Type: assetTypes[ext], Body: body}
		hashed[base] = AssetPrefix + full
	}
	p.page, err = template.New("page.html").
		Funcs(template.FuncMap{"asset": func(name string) (string, error) {
			if u, ok := hashed[name]; ok {
				return u, nil
			}
			return "", fmt.Errorf("no page asset %q", name)
		}}).
		ParseFS(files, "page.html")
	if err != nil {
		return nil, fmt.Errorf("parse page: %w", err)
	}
	return p, nil
}

// Render draws v as HTML.
func (p *Pages) Render(w io.Writer, v View) error {
	if err := p.page.Execute(w, v); err != nil {
		return fmt.Errorf("render page: %w", err)
	}
	return nil
}

// Asset returns the file called name, with its hash.
func (p *Pages) Asset(name string) (Asset, bool) {
	a, ok := p.assets[name]
	return a, ok
}
