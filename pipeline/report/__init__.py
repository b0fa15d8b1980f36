"""What the report is made of: one module per section, from tables to figures; `page` puts them on a page."""
