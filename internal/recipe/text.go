// SPDX-License-Identifier: Apache-2.0

package recipe

import (
	"go.yaml.in/yaml/v4"

	"sealift/suit"
)

// text reads a mapping of languages to descriptions.
func (d *decoder) text(n *yaml.Node, field string) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, field, "a mapping of languages is expected, as in `en:`")
		return
	}
	var texts []suit.Text
	for i := 0; i+1 < len(n.Content); i += 2 {
		t := suit.Text{Language: n.Content[i].Value}
		at := field + "." + t.Language
		d.mapping(n.Content[i+1], at, map[string]reader{
			"manifest-description": d.word(&t.Description), "update-description": d.word(&t.Update),
			"manifest-json-source": d.word(&t.JSON), "manifest-yaml-source": d.word(&t.YAML),
			"components": func(n *yaml.Node, field string) { d.componentTexts(&t, n, field) },
		})
		texts = append(texts, t)
	}
	encoded, err := suit.EncodeText(texts)
	if err != nil {
		d.refuse(n, field, "%v", err)
	}
	d.builder.Text = encoded
}

func (d *decoder) word(dst *string) reader {
	return func(n *yaml.Node, field string) { *dst, _ = d.scalar(n, field) }
}

func (d *decoder) componentTexts(t *suit.Text, n *yaml.Node, field string) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, field, "a mapping of components is expected")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		c := suit.ComponentText{Component: d.id(n.Content[i], field)}
		d.mapping(n.Content[i+1], field+"."+n.Content[i].Value, map[string]reader{
			"vendor-name": d.word(&c.VendorName), "model-name": d.word(&c.ModelName), "vendor-domain": d.word(&c.VendorDomain),
			"model-info": d.word(&c.ModelInfo), "component-description": d.word(&c.Description), "component-version": d.word(&c.Version),
			"version-required": d.word(&c.VersionRequired), "current-version": d.word(&c.CurrentVersion),
		})
		t.Components = append(t.Components, c)
	}
}
