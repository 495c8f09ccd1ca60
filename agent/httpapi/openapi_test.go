package httpapi

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/peerhq/peer/agent/api"
)

// openAPIDoc is what the tests read of the document.
type openAPIDoc struct {
	OpenAPI string
	Paths   map[string]map[string]struct {
		OperationID string
		Summary     string
		Parameters  []struct{ Name, In string }
		Responses   map[string]any
	}
	Components struct {
		Schemas map[string]struct {
			Properties map[string]any
			Required   []string
		}
	}
}

func readOpenAPI(t *testing.T) (openAPIDoc, string) {
	t.Helper()
	var d openAPIDoc
	if err := json.Unmarshal(openAPI, &d); err != nil {
		t.Fatalf("openapi.json does not parse: %v", err)
	}
	return d, string(openAPI)
}

func TestOpenAPIHasEveryRouteAndNoOther(t *testing.T) {
	d, _ := readOpenAPI(t)
	ids := map[string]bool{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" || op.Responses["default"] == nil {
				t.Errorf("%s %s: no operation id of its own, summary or default response", method, path)
			}
			ids[op.OperationID] = true
		}
	}
	got, want := map[string][]string{}, map[string][]string{}
	for path, ops := range d.Paths {
		for method, op := range ops {
			params := []string{}
			for _, p := range op.Parameters {
				if p.In == "query" {
					params = append(params, p.Name)
				}
			}
			slices.Sort(params)
			got[strings.ToUpper(method)+" "+path] = params
		}
	}
	for _, rt := range routes {
		pattern := strings.NewReplacer("{$}", "", "...}", "}").Replace(rt.pattern)
		want[pattern] = slices.Sorted(slices.Values(rt.params))
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if g, ok := got[key]; !ok {
			t.Errorf("openapi.json lacks %s", key)
		} else if !slices.Equal(g, want[key]) {
			t.Errorf("%s: openapi.json has the parameters %q, the route %q", key, g, want[key])
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("openapi.json has %s, which is no route", key)
		}
	}
}

func TestOpenAPIHasEveryField(t *testing.T) {
	d, text := readOpenAPI(t)
	for _, typ := range []reflect.Type{
		reflect.TypeFor[api.Members](), reflect.TypeFor[api.Member](), reflect.TypeFor[api.Service](),
		reflect.TypeFor[api.Next](), reflect.TypeFor[api.NextPeer](), reflect.TypeFor[api.Status](),
		reflect.TypeFor[api.Verdict](), reflect.TypeFor[api.StatusNode](), reflect.TypeFor[api.StatusCluster](),
		reflect.TypeFor[api.StatusSeed](), reflect.TypeFor[api.StatusUnseen](), reflect.TypeFor[api.StatusSelector](), reflect.TypeFor[api.StatusLocks](),
		reflect.TypeFor[api.LockBackend](), reflect.TypeFor[api.Check](), reflect.TypeFor[api.StatusEvents](),
		reflect.TypeFor[api.Warning](), reflect.TypeFor[api.Locks](), reflect.TypeFor[api.Lock](),
		reflect.TypeFor[api.LockHolder](), reflect.TypeFor[api.LockWaiter](), reflect.TypeFor[api.LockRequest](),
		reflect.TypeFor[api.Lease](), reflect.TypeFor[api.LeaseRequest](), reflect.TypeFor[api.Released](), reflect.TypeFor[api.HoldEvent](), reflect.TypeFor[api.Event](),
		reflect.TypeFor[api.EventMember](), reflect.TypeFor[api.EventLock](), reflect.TypeFor[api.JoinRequest](),
		reflect.TypeFor[api.JoinResult](), reflect.TypeFor[api.JoinError](), reflect.TypeFor[api.Problem](),
		reflect.TypeFor[api.Standing](), reflect.TypeFor[api.NextReport](), reflect.TypeFor[api.Services](),
		reflect.TypeFor[api.ServiceGroup](), reflect.TypeFor[api.ServiceInstance](), reflect.TypeFor[api.LocalService](),
		reflect.TypeFor[api.CheckStatus](), reflect.TypeFor[api.Registration](), reflect.TypeFor[api.ServiceCheck](),
		reflect.TypeFor[api.PassRequest](), reflect.TypeFor[api.Keyring](),
		reflect.TypeFor[api.KeyringKey](), reflect.TypeFor[api.KeyringMember](), reflect.TypeFor[api.KeyringRequest](),
		reflect.TypeFor[api.DrainRequest](),
	} {
		var want []string
		for field := range typ.Fields() {
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
				want = append(want, name)
			}
		}
		slices.Sort(want)
		got := slices.Sorted(maps.Keys(d.Components.Schemas[typ.Name()].Properties))
		if !slices.Equal(got, want) {
			t.Errorf("schema %s has %q, the type %q", typ.Name(), got, want)
		}
	}
	for rest := text; ; {
		_, after, ok := strings.Cut(rest, `"#/components/schemas/`)
		if !ok {
			break
		}
		name, tail, _ := strings.Cut(after, `"`)
		if _, ok := d.Components.Schemas[name]; !ok {
			t.Errorf("a reference to %s, which is no schema", name)
		}
		rest = tail
	}
}
