package cluster

import (
	"maps"
	"slices"
)

// clone copies what a caller may change afterwards.
func (r record) clone() record {
	r.Tags = maps.Clone(r.Tags)
	r.Services = slices.Clone(r.Services)
	for i := range r.Services {
		s := &r.Services[i]
		s.Tags, s.Meta = slices.Clone(s.Tags), maps.Clone(s.Meta)
	}
	return r
}
