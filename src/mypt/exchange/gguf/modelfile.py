"""A Modelfile, by which Ollama makes a model of a GGUF file."""

from mypt.schema.files.chat import ChatTemplate
from mypt.schema.files.tokenizer import END_OF_TEXT, TokenizerFile
from mypt.schema.settings.config import GPTConfig

_ROLES = ("system", "user", "assistant")
"""Those that an Ollama template knows by these names."""


def modelfile(file_name: str, config: GPTConfig, tokenizer: TokenizerFile) -> str:
    """The text of a Modelfile for a GGUF file in the same folder.

    The template is written out even where there is none, as Ollama would else put one of its own around each prompt.
    """
    template = tokenizer.template
    stops = [template.end] if template is not None else []
    if END_OF_TEXT in tokenizer.special_ids:
        stops.append(tokenizer.end_of_text or END_OF_TEXT)
    lines = [f"FROM ./{file_name}", f"PARAMETER num_ctx {config.block_size}"]
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines.append(f'TEMPLATE """{"{{ .Prompt }}" if template is None else _turns(template)}"""')
    return "\n".join(lines) + "\n"


def _turns(template: ChatTemplate) -> str:
    turns = [
        f'{{{{- if eq .Role "{role}" }}}}{template.roles[role]}{{{{ .Content }}}}{template.end}{{{{ end }}}}'
        for role in template.roles
        if role in _ROLES
    ]
    return f"{{{{- range .Messages }}}}{''.join(turns)}{{{{- end }}}}{template.roles['assistant']}"
